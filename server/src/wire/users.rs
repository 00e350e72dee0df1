//! Users on the wire.
//!
//! A password exists here only as a secret type, which is neither printed nor sent; its rules are checked where passwords
//! are hashed. A user is always shown with the state of the account, because that is what an admin looks for.

use std::str::FromStr;

use nexus_engine::account::Account;
use nexus_engine::instrument::Currency;
use nexus_engine::units::Money;
use nexus_store::directory::{Role, User};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decimal::WireDecimal;
use super::fields::{FieldError, Fields, check_name};
use super::limits::LimitsBody;
use super::time;

/// A user to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUser, example = json!({
    "username": "ann", "password": "…", "role": "user", "equity": "500.00", "currency": "USD"
}))]
pub struct NewUserBody {
    /// A unique name.
    #[schema(required = true)]
    pub username: Option<String>,
    /// 8 to 128 characters with upper, lower, digit and special; not a common one; not containing the name.
    #[schema(value_type = String, required = true, format = Password)]
    pub password: Option<SecretString>,
    /// `user` (the default) or `admin`.
    pub role: Option<String>,
    /// What the account begins with; required for a user, zero for an admin who does not say.
    pub equity: Option<WireDecimal>,
    /// The currency of the account; `USD` when absent.
    pub currency: Option<String>,
}

/// A user to be made, once the fields are right.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The name.
    pub username: String,
    /// The password; its rules are checked by `auth`.
    pub password: SecretString,
    /// What it may do.
    pub role: Role,
    /// What the account begins with.
    pub equity: Money,
    /// The currency of the account.
    pub currency: Currency,
}

/// A role as it is written.
struct RoleName(Role);

impl FromStr for RoleName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::from_name(text).map(Self).ok_or("is neither user nor admin")
    }
}

/// A name that passes `check_name`.
struct Name(String);

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_name(text).map(|()| Self(text.to_owned()))
    }
}

/// Three to five capital letters.
struct CurrencyCode(Currency);

impl FromStr for CurrencyCode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(3..=5).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err("is not a currency code, as in USD");
        }
        Ok(Self(Currency::new(text)))
    }
}

impl NewUserBody {
    /// The fields, or all that is wrong with them.
    pub fn parse(self) -> Result<NewUser, Vec<FieldError>> {
        let mut fields = Fields::default();
        let username = fields.require::<Name>("username", self.username.as_deref()).map(|name| name.0);
        if self.password.is_none() {
            fields.refuse("password", "missing", "is required");
        }
        let role = match self.role.as_deref() {
            None => Some(Role::User),
            Some(text) => fields.optional::<RoleName>("role", Some(text)).map(|role| role.0),
        };
        let equity = match (&self.equity, role) {
            (None, Some(Role::Admin)) => Some(Money::ZERO),
            (number, _) => fields.require::<Money>("equity", number.as_ref().map(WireDecimal::as_str)),
        };
        if equity.is_some_and(|equity| equity < Money::ZERO) {
            fields.refuse("equity", "invalid", "must not be negative");
        }
        let currency = fields.require::<CurrencyCode>("currency", Some(self.currency.as_deref().unwrap_or("USD")));
        let password = self.password;
        let user = (|| {
            Some(NewUser {
                username: username?,
                password: password?,
                role: role?,
                equity: equity?,
                currency: currency?.0,
            })
        })();
        fields.finish(user)
    }
}

/// A change of a user. What is absent stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserChange, example = json!({"role": "admin"}))]
pub struct UserChangeBody {
    /// A new unique name.
    pub username: Option<String>,
    /// A new role. Ends every token of the user.
    pub role: Option<String>,
    /// A new password. Ends every token of the user.
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<SecretString>,
}

impl UserChangeBody {
    /// The new name and role, or all that is wrong with them.
    pub fn parse(&self) -> Result<(Option<String>, Option<Role>), Vec<FieldError>> {
        let mut fields = Fields::default();
        let username = fields.optional::<Name>("username", self.username.as_deref()).map(|name| name.0);
        let role = fields.optional::<RoleName>("role", self.role.as_deref()).map(|role| role.0);
        fields.finish(Some((username, role)))
    }
}

/// A user and the state of the account.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody {
    /// Its id.
    pub id: String,
    /// Its name.
    pub username: String,
    /// `user` or `admin`.
    pub role: &'static str,
    /// Whether entries are allowed for this user.
    pub trading_enabled: bool,
    /// Whether the user's inputs failed so often that a person must look.
    pub quarantined: bool,
    /// What the account began with.
    #[schema(example = "500.00")]
    pub starting_equity: String,
    /// Starting equity and realised profit and loss.
    #[schema(example = "500.00")]
    pub equity: String,
    /// The currency of the account.
    pub currency: String,
    /// What the user trades under.
    pub limits: LimitsBody,
    /// When it was made.
    pub created_at: String,
}

impl UserBody {
    /// Shows a user.
    pub fn of(user: &User, account: &Account) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username.clone(),
            role: user.role.as_str(),
            trading_enabled: account.trading_enabled,
            quarantined: account.quarantined,
            starting_equity: account.starting_equity.to_string(),
            equity: account.equity().to_string(),
            currency: account.currency.to_string(),
            limits: LimitsBody::of(&account.limits),
            created_at: time::format(user.created_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn every_fault_of_a_new_user_is_named_by_its_field() {
        let table: [(&str, &[(&str, &str)]); 8] = [
            (r#"{"username":"ann","password":"x","equity":"500.00"}"#, &[]),
            (r#"{"username":"root","password":"x","role":"admin"}"#, &[]),
            ("{}", &[("username", "missing"), ("password", "missing"), ("equity", "missing")]),
            (r#"{"username":"a b","password":"x","equity":1}"#, &[("username", "invalid")]),
            (r#"{"username":"ann","password":"x","equity":-1}"#, &[("equity", "invalid")]),
            (r#"{"username":"ann","password":"x","equity":"NaN"}"#, &[("equity", "invalid")]),
            (r#"{"username":"ann","password":"x","equity":1,"role":"feed"}"#, &[("role", "invalid")]),
            (r#"{"username":"ann","password":"x","equity":1,"currency":"usd"}"#, &[("currency", "invalid")]),
        ];
        for (body, expected) in table {
            let user: NewUserBody = json::decode(body.as_bytes()).expect("well-formed");
            let errors = user.parse().err().unwrap_or_default();
            let found: Vec<_> = errors.iter().map(|e| (e.field.as_str(), e.code)).collect();
            assert_eq!(found, expected, "{body}");
        }
    }
}
