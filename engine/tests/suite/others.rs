//! What somebody else writes into the ledger's counters, and the account that is loaded as they say.
//!
//! The ledger keeps the account after its newest turn; whatever others have written since is loaded on top of that, however
//! often it is loaded. The next turn tells of it, once, and no turn tells of nothing.

use nexus_engine::account::{Account, Event, LedgerRisk, Turn};
use nexus_engine::ids::Timeframe;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::compare::Shadow;
use crate::model::Steps;

/// What others have written, and what the ledger keeps beside.
pub struct Others {
    /// Profit and loss that they have written, all together.
    pub net: Steps,
    /// What the ledger counted, when the account was loaded since the last step.
    pub loaded: Option<LedgerRisk>,
    /// The account after its newest turn.
    stored: Account,
    /// Since then: risk, profit or loss, acceptances.
    untold: (Steps, Steps, u32),
}

impl Others {
    pub fn new(account: Account) -> Others {
        Others { net: 0, loaded: None, stored: account, untold: (0, 0, 0) }
    }

    /// They write into the counters of the account's day, and the account is loaded again.
    pub fn write(
        &mut self,
        shadow: &mut Shadow,
        reserved: Steps,
        net: Steps,
        timeframe: Option<Timeframe>,
    ) -> Result<Account, TestCaseError> {
        self.net += net;
        self.untold.0 += reserved;
        self.untold.1 += net;
        self.untold.2 += u32::from(timeframe.is_some());
        shadow.write(self.stored.today.day, reserved, net, timeframe);
        let ledger = shadow.ledger(&self.stored);
        let account = self.stored.clone().corrected(ledger.clone());
        self.loaded = Some(ledger);
        prop_assert_eq!(account.correction.is_some(), self.untold != (0, 0, 0));
        Ok(account)
    }

    /// A turn tells of it; what else it tells is left.
    pub fn told(&mut self, after: &Account, turn: &mut Turn) -> TestCaseResult {
        if turn.events.is_empty() {
            return Ok(());
        }
        let told = turn.events.extract_if(.., |event| matches!(event, Event::Corrected(_))).count();
        prop_assert_eq!(told, usize::from(self.untold != (0, 0, 0)), "what others wrote is told of once");
        self.untold = (0, 0, 0);
        self.stored = after.clone();
        Ok(())
    }
}
