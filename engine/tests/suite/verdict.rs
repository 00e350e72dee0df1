//! What should be decided on a signal: the rules, one after the other, on the model's own figures.
//!
//! Written as the rules are told to people: a list of questions, the first that is answered with a refusal speaks. All
//! figures are worked out from the list of facts at the moment of the question.

use crate::model::{Limits, Micros, Model, ONE, Picture, Plan, SECOND, Steps, Terms, ceil, cost, floor, percent_up};

/// What a feed asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub symbol: String,
    pub long: bool,
    pub minutes: i64,
    /// Whether the entry price is a limit.
    pub limit: bool,
    pub entry: Option<Steps>,
    pub stop: Steps,
    pub target: Steps,
    pub issued_at: Micros,
    pub plan: Plan,
}

/// What is known of the world when a signal is decided.
#[derive(Clone, Debug)]
pub struct Seen {
    pub gate: Gate,
    pub subscribed: bool,
    pub instrument: Option<Instrument>,
    pub mark: Option<Mark>,
}

/// What trading is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    Active,
    Reducing,
    Halted,
}

/// How an instrument trades.
#[derive(Clone, Debug)]
pub struct Instrument {
    pub tick: Steps,
    pub lot: Steps,
    pub fee_percent: Steps,
    pub quote: String,
    pub enabled: bool,
}

/// A market at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub bid: Steps,
    pub ask: Steps,
    pub at: Micros,
}

/// The terms of an acceptance, and the figures of its moment.
#[derive(Clone, Debug)]
pub struct Agreed {
    pub terms: Terms,
    pub used_before: Steps,
    pub equity: Steps,
}

/// Accepted, or refused with this code.
#[derive(Clone, Debug)]
pub enum Verdict {
    Accepted(Box<Agreed>),
    Refused(&'static str),
}

/// One signal before the rules.
struct Case<'a> {
    now: Micros,
    ask: &'a Ask,
    seen: &'a Seen,
    picture: &'a Picture,
    equity: Steps,
    currency: &'a str,
}

impl Model {
    /// What should be decided.
    pub fn decide(&self, now: Micros, ask: &Ask, seen: &Seen) -> Verdict {
        let picture = self.picture();
        let equity = self.equity(&picture);
        let now = now.max(self.now());
        let case = Case { now, ask, seen, picture: &picture, equity, currency: &self.currency };
        match case.judge() {
            Ok(terms) => {
                let used_before = picture.realized_loss(now) + picture.open_risk() + picture.reserved();
                Verdict::Accepted(Box::new(Agreed { terms, used_before, equity }))
            }
            Err(code) => Verdict::Refused(code),
        }
    }
}

type Judged<T = ()> = Result<T, &'static str>;

fn refuse_if(condition: bool, code: &'static str) -> Judged {
    if condition { Err(code) } else { Ok(()) }
}

impl Case<'_> {
    fn judge(&self) -> Judged<Terms> {
        self.permission()?;
        self.freshness()?;
        let instrument = self.instrument()?;
        let reference = self.market()?;
        self.counts()?;
        let terms = self.size(instrument, reference)?;
        self.size_limits(&terms)?;
        Ok(terms)
    }

    fn limits(&self) -> &Limits {
        &self.picture.limits
    }

    fn permission(&self) -> Judged {
        match self.seen.gate {
            Gate::Active => {}
            Gate::Reducing => return Err("reducing_only"),
            Gate::Halted => return Err("trading_halted"),
        }
        refuse_if(!self.picture.trading, "user_disabled")?;
        refuse_if(self.picture.quarantined, "quarantined")?;
        refuse_if(!self.seen.subscribed, "feed_not_subscribed")
    }

    fn freshness(&self) -> Judged {
        refuse_if(self.now - self.ask.issued_at > self.limits().signal_age, "stale_signal")?;
        refuse_if(self.ask.issued_at - self.now > self.limits().future_tolerance, "future_signal")?;
        let repeats = self.picture.lots.values().any(|lot| {
            (&lot.terms.symbol, lot.terms.long, lot.terms.minutes)
                == (&self.ask.symbol, self.ask.long, self.ask.minutes)
                && self.now - lot.accepted_at < self.limits().duplicate_window
        });
        refuse_if(repeats, "duplicate_signal")
    }

    fn instrument(&self) -> Judged<&Instrument> {
        let instrument = self.seen.instrument.as_ref().ok_or("unknown_instrument")?;
        refuse_if(!instrument.enabled, "instrument_disabled")?;
        refuse_if(instrument.quote != self.currency, "currency_mismatch")?;
        let prices = [self.ask.entry, Some(self.ask.stop), Some(self.ask.target)];
        let off_tick = prices.into_iter().flatten().any(|price| price % instrument.tick != 0);
        refuse_if(off_tick, "tick_size")?;
        self.geometry(self.ask.entry)?;
        Ok(instrument)
    }

    /// The stop lies behind, the target ahead, and the entry between them.
    fn geometry(&self, entry: Option<Steps>) -> Judged {
        let between = |low: Steps, high: Steps| low < high && entry.is_none_or(|entry| low < entry && entry < high);
        let fits = if self.ask.long {
            between(self.ask.stop, self.ask.target)
        } else {
            between(self.ask.target, self.ask.stop)
        };
        refuse_if(!fits, "stop_geometry")
    }

    /// The price that the size is computed from.
    fn market(&self) -> Judged<Steps> {
        let mark = self.seen.mark.ok_or("stale_market_data")?;
        refuse_if(self.now - mark.at > self.limits().mark_age, "stale_market_data")?;
        refuse_if(mark.at - self.now > self.limits().future_tolerance, "stale_market_data")?;
        let taker = if self.ask.long { mark.ask } else { mark.bid };
        if let Some(entry) = self.ask.entry {
            let away = (entry - taker).abs() * 100 * ONE;
            refuse_if(away > self.limits().collar_percent * taker, "price_collar")?;
        }
        let reference = match self.ask.entry {
            Some(entry) if self.ask.limit => entry,
            Some(entry) if self.ask.long => entry.max(taker),
            Some(entry) => entry.min(taker),
            None => taker,
        };
        self.geometry(Some(reference))?;
        Ok(reference)
    }

    fn counts(&self) -> Judged {
        let allowed = self.limits().timeframes.get(&self.ask.minutes).copied().unwrap_or(0);
        refuse_if(self.picture.count(self.now, self.ask.minutes) >= allowed, "timeframe_limit")?;
        let lots = || self.picture.lots.values();
        let opposes = lots()
            .any(|lot| lot.is_exposed() && lot.terms.symbol == self.ask.symbol && lot.terms.long != self.ask.long);
        refuse_if(opposes, "opposing_position")?;
        let busy = lots().filter(|lot| lot.is_busy()).count();
        refuse_if(busy >= self.limits().open_positions as usize, "open_positions")?;
        let lately = lots().filter(|lot| self.now - lot.accepted_at < 60 * SECOND).count();
        refuse_if(lately >= self.limits().orders_per_minute as usize, "throttled")?;
        refuse_if(self.picture.cooling_until.is_some_and(|until| self.now < until), "loss_streak")?;
        refuse_if(self.picture.realized_loss(self.now) >= self.limits().cap, "day_closed")?;
        refuse_if(self.picture.remaining(self.now) <= 0, "daily_loss_cap")
    }

    fn size(&self, instrument: &Instrument, reference: Steps) -> Judged<Terms> {
        let (limits, ask) = (self.limits(), self.ask);
        let slippage = percent_up(reference, limits.slippage_percent);
        let fees = percent_up(reference + ask.stop, instrument.fee_percent);
        let unit = (reference - ask.stop).abs() + slippage + fees;
        let intended = floor(self.equity.max(0) * limits.risk_percent, 100 * ONE);
        let whole_lots = |budget: Steps| floor(budget * ONE, unit * instrument.lot) * instrument.lot;
        refuse_if(whole_lots(intended) == 0, "risk_per_trade")?;
        let quantity = whole_lots(intended.min(self.picture.remaining(self.now)));
        let risk = ceil(quantity * unit, ONE);
        refuse_if(quantity == 0 || risk * 4 < intended, "size_below_minimum")?;
        Ok(Terms {
            symbol: ask.symbol.clone(),
            long: ask.long,
            minutes: ask.minutes,
            quantity,
            sized_at: reference,
            stop: ask.stop,
            target: ask.target,
            risk,
            unit,
            fee_percent: instrument.fee_percent,
            tick: instrument.tick,
            expires_at: self.now + ask.minutes * 60 * SECOND,
            plan: ask.plan.clone(),
        })
    }

    fn size_limits(&self, terms: &Terms) -> Judged {
        let limits = self.limits();
        refuse_if(terms.quantity > limits.order_quantity, "max_order_quantity")?;
        let value = cost(terms.quantity, terms.sized_at);
        refuse_if(value > limits.order_value, "max_order_value")?;
        let exposed: Steps = self.picture.lots.values().map(crate::model::Lot::exposure).sum();
        refuse_if(exposed + value > limits.exposure, "max_exposure")?;
        let same = self.picture.lots.values().filter(|lot| {
            (&lot.terms.symbol, lot.terms.long, lot.terms.quantity) == (&terms.symbol, terms.long, terms.quantity)
                && self.now - lot.accepted_at < 3_600 * SECOND
        });
        refuse_if(same.count() >= limits.repeated_executions as usize, "repeated_execution")
    }
}
