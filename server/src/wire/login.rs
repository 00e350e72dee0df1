//! Signing in.
//!
//! The password is a secret type from the moment it is read, so that no log line can show it. The fields of
//! refreshing and of a second factor stand here although this release has neither: clients that send or read them need
//! not change.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who signs in.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Login, example = json!({"username": "admin", "password": "…"}))]
pub struct LoginBody {
    /// The name.
    pub username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// A one-time password. Nobody can enrol one in this release, so what is sent is not looked at.
    #[serde(rename = "totp")]
    #[schema(value_type = Option<String>)]
    pub _totp: Option<SecretString>,
}

/// What signing in gives.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = LoginAnswer)]
pub struct LoginAnswerBody {
    /// Send it as `Authorization: Bearer …`.
    pub access_token: String,
    /// Null: this release signs in again instead of refreshing.
    pub refresh_token: Option<String>,
    /// `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Seconds until the access token is dead.
    #[schema(example = 900)]
    pub expires_in: u64,
    /// Whether the user has enrolled a one-time password.
    pub mfa_enrolled: bool,
}
