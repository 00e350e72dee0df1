//! Access tokens: JWTs signed with HS256, judged without the database.
//!
//! A token says who, in which role, and until when; its `jti` can be revoked. Expiry and not-before are exact to the
//! second, and issuer, audience and type are checked, so that no other token signed with the same key passes. Tokens
//! signed with the previous key stay valid while a key is being rotated.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use nexus_engine::ids::UserId;
use nexus_store::directory::Role;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

const ISSUER: &str = "nexus";
const AUDIENCE: &str = "nexus-api";
const TYPE: &str = "access";

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    typ: String,
    /// Who.
    sub: UserId,
    role: String,
    /// What they were called when it was issued: for people who read who did what.
    pub name: String,
    /// The token's own id.
    pub jti: String,
    /// When it was issued, in seconds since the epoch.
    pub iat: i64,
    nbf: i64,
    /// When it is dead, in seconds since the epoch.
    pub exp: i64,
}

impl Claims {
    /// Who.
    pub fn user(&self) -> UserId {
        self.sub
    }
}

/// Why a token does not sign anybody in. Callers are told nothing of it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TokenError {
    /// Not signed by us, not yet or no longer valid, or not an access token.
    #[error("the token is not valid: {0}")]
    Invalid(String),
}

/// A token could not be signed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("a token could not be signed: {0}")]
pub struct SigningError(String);

/// Issues and judges tokens.
pub struct Tokens {
    signs_with: EncodingKey,
    accepts: Vec<DecodingKey>,
    validation: Validation,
    lifetime_s: u64,
}

impl Tokens {
    /// Signs with `key`; accepts tokens signed with it or with `previous`.
    pub fn new(key: &SecretString, previous: Option<&SecretString>, lifetime_s: u64) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let accepts = std::iter::once(key).chain(previous);
        Self {
            signs_with: EncodingKey::from_secret(key.expose_secret().as_bytes()),
            accepts: accepts.map(|key| DecodingKey::from_secret(key.expose_secret().as_bytes())).collect(),
            validation,
            lifetime_s,
        }
    }

    /// Seconds for which a token is good.
    pub fn lifetime_s(&self) -> u64 {
        self.lifetime_s
    }

    /// A new token for a user, issued at `now_s`. `ended_before_s` is the second before which all tokens of the user were
    /// ended: one that is issued right after that must not count as one of those, nor have to wait to be good.
    pub fn issue(
        &self,
        user: UserId,
        name: &str,
        role: Role,
        now_s: i64,
        ended_before_s: i64,
    ) -> Result<String, SigningError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            typ: TYPE.to_owned(),
            sub: user,
            role: role.as_str().to_owned(),
            name: name.to_owned(),
            jti: Uuid::new_v4().to_string(),
            iat: now_s.max(ended_before_s),
            nbf: now_s,
            exp: now_s.saturating_add_unsigned(self.lifetime_s),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signs_with).map_err(|e| SigningError(e.to_string()))
    }

    /// What a token says, when it is ours and valid at this moment. Whether it was revoked is not known here.
    pub fn judge(&self, token: &str) -> Result<(Claims, Role), TokenError> {
        let mut refusal = TokenError::Invalid("no key is configured".to_owned());
        for key in &self.accepts {
            match decode::<Claims>(token, key, &self.validation) {
                Ok(data) => return check_type(data.claims),
                Err(error) => {
                    let is_other_key = matches!(error.kind(), ErrorKind::InvalidSignature);
                    refusal = TokenError::Invalid(error.to_string());
                    if !is_other_key {
                        break;
                    }
                }
            }
        }
        Err(refusal)
    }
}

fn check_type(claims: Claims) -> Result<(Claims, Role), TokenError> {
    if claims.typ != TYPE {
        return Err(TokenError::Invalid("it is not an access token".to_owned()));
    }
    match Role::from_name(&claims.role) {
        Some(role) => Ok((claims, role)),
        None => Err(TokenError::Invalid("it names no role".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::get_current_timestamp;

    fn key(fill: &str) -> SecretString {
        fill.repeat(32).into()
    }

    fn now_s() -> i64 {
        i64::try_from(get_current_timestamp()).expect("in range")
    }

    fn forged(change: impl FnOnce(&mut Claims)) -> String {
        let tokens = Tokens::new(&key("a"), None, 60);
        let token = tokens.issue(UserId(Uuid::nil()), "ann", Role::User, now_s(), 0).expect("signed");
        let (mut claims, _) = tokens.judge(&token).expect("valid");
        change(&mut claims);
        encode(&Header::new(Algorithm::HS256), &claims, &tokens.signs_with).expect("signed")
    }

    #[test]
    fn a_token_says_who_and_in_which_role() {
        let tokens = Tokens::new(&key("a"), None, 60);
        let user = UserId(Uuid::from_u128(7));
        let (claims, role) =
            tokens.judge(&tokens.issue(user, "ann", Role::Admin, now_s(), 0).expect("signed")).expect("valid");
        assert_eq!((claims.user(), role, claims.exp - claims.iat), (user, Role::Admin, 60));
    }

    #[test]
    fn a_token_is_refused_for_every_single_fault() {
        let tokens = Tokens::new(&key("a"), None, 60);
        let refuses = |token: &str| tokens.judge(token).is_err();
        assert!(!refuses(&forged(|_| {})));
        assert!(refuses(&forged(|c| c.exp = now_s() - 1)), "expired a second ago");
        assert!(refuses(&forged(|c| c.nbf = now_s() + 2)), "not yet valid");
        assert!(refuses(&forged(|c| c.iss = "other".into())));
        assert!(refuses(&forged(|c| c.aud = "other".into())));
        assert!(refuses(&forged(|c| c.typ = "refresh".into())));
        assert!(refuses(&forged(|c| c.role = "root".into())));
        for garbage in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert!(refuses(garbage), "{garbage}");
        }
        let unsigned = Header { alg: Algorithm::HS512, ..Header::default() };
        let (claims, _) = tokens.judge(&forged(|_| {})).expect("valid");
        let other_algorithm = encode(&unsigned, &claims, &tokens.signs_with).expect("signed");
        assert!(refuses(&other_algorithm));
    }

    #[test]
    fn a_token_is_good_in_the_second_in_which_older_ones_were_ended() {
        let tokens = Tokens::new(&key("a"), None, 60);
        let ended_before_s = now_s() + 1;
        let token = tokens.issue(UserId(Uuid::nil()), "ann", Role::User, now_s(), ended_before_s).expect("signed");
        let (claims, _) = tokens.judge(&token).expect("valid");
        assert!(claims.iat >= ended_before_s);
    }

    #[test]
    fn the_previous_key_is_accepted_and_not_signed_with() {
        let old = Tokens::new(&key("a"), None, 60);
        let rotated = Tokens::new(&key("b"), Some(&key("a")), 60);
        let token = old.issue(UserId(Uuid::nil()), "ann", Role::User, now_s(), 0).expect("signed");
        assert!(rotated.judge(&token).is_ok());
        assert!(
            old.judge(&rotated.issue(UserId(Uuid::nil()), "ann", Role::User, now_s(), 0).expect("signed")).is_err()
        );
        assert!(Tokens::new(&key("b"), None, 60).judge(&token).is_err());
    }
}
