//! PostgreSQL: the contracts.

use nexus_engine::ids::UserId;
use nexus_engine::units::Money;
use nexus_store::PostgresStore;

use crate::contract::Database;
use crate::server::{PostgresDatabase, options};

impl Database for PostgresDatabase {
    type Store = PostgresStore;

    async fn fresh() -> Self {
        Self::with(&options()).await
    }

    fn store(&self) -> &PostgresStore {
        self.store()
    }

    async fn reopen(self) -> Self {
        self.reopen().await
    }

    async fn reserve_behind_its_back(&self, user: UserId, risk: Money) {
        let sql = "UPDATE accounts SET reserved_e8 = reserved_e8 + $2 WHERE user_id = $1";
        let done = sqlx::query(sql).bind(user.0).bind(risk.steps()).execute(&mut self.raw().await).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn realize_behind_its_back(&self, user: UserId, day: &str, realized: Money) {
        let sql = "INSERT INTO daily_risk AS r VALUES ($1, $2::date, $3)
                   ON CONFLICT (user_id, day) DO UPDATE SET realized_e8 = r.realized_e8 + excluded.realized_e8";
        let insert = sqlx::query(sql).bind(user.0).bind(day.to_owned()).bind(realized.steps());
        assert_eq!(insert.execute(&mut self.raw().await).await.unwrap().rows_affected(), 1);
    }
}

mod ledger {
    ledger_contract!(crate::server::PostgresDatabase);
    use crate::contract::Database;
}
mod directory {
    directory_contract!(crate::server::PostgresDatabase);
    use crate::contract::Database;
}
