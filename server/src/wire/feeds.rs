//! Feeds on the wire.
//!
//! A feed without its secrets is one type and a feed with new secrets another, so that a list cannot show what only the
//! answer to a creation may.

use nexus_engine::ids::Symbol;
use nexus_store::directory::Feed;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::fields::{FieldError, Fields, check_name};
use super::time;

/// A feed to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeed, example = json!({"name": "breakout", "symbols": ["EURUSD"]}))]
pub struct NewFeedBody {
    /// A unique name.
    #[schema(required = true)]
    pub name: Option<String>,
    /// The symbols whose marks it may push; all when empty or absent.
    pub symbols: Option<Vec<String>>,
}

impl NewFeedBody {
    /// Name and symbols, or all that is wrong with them; `known` says which symbols there are.
    pub fn parse(self, known: impl Fn(&Symbol) -> bool) -> Result<(String, Vec<Symbol>), Vec<FieldError>> {
        let mut fields = Fields::default();
        match self.name.as_deref() {
            None => fields.refuse("name", "missing", "is required"),
            Some(name) => {
                if let Err(why) = check_name(name) {
                    fields.refuse("name", "invalid", why);
                }
            }
        }
        let mut symbols = Vec::new();
        for text in self.symbols.unwrap_or_default() {
            let Some(symbol) = fields.optional::<Symbol>("symbols", Some(&text)) else { continue };
            if !known(&symbol) {
                fields.refuse(
                    "symbols",
                    "unknown_instrument",
                    format_args!("name {symbol}, which is not an instrument"),
                );
            }
            symbols.push(symbol);
        }
        symbols.sort();
        symbols.dedup();
        fields.finish(self.name.map(|name| (name, symbols)))
    }
}

/// A feed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Feed)]
pub struct FeedBody {
    /// Its id.
    pub id: String,
    /// Its name.
    #[schema(example = "breakout")]
    pub name: String,
    /// The symbols whose marks it may push; all when empty.
    pub symbols: Vec<String>,
    /// When it was made.
    pub created_at: String,
}

impl FeedBody {
    /// Shows a feed.
    pub fn of(feed: &Feed) -> Self {
        Self {
            id: feed.id.to_string(),
            name: feed.name.clone(),
            symbols: feed.symbols.iter().map(ToString::to_string).collect(),
            created_at: time::format(feed.created_at),
        }
    }
}

/// A feed with its new secrets, which are shown this once.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = FeedSecrets)]
pub struct FeedSecretsBody {
    /// The feed.
    #[serde(flatten)]
    pub feed: FeedBody,
    /// Send it as `Authorization: Bearer nxf_…`.
    #[serde(serialize_with = "shown_once")]
    #[schema(value_type = String, example = "nxf_…")]
    pub api_key: SecretString,
    /// The key of its webhook signatures.
    #[serde(serialize_with = "shown_once")]
    #[schema(value_type = String, example = "whsec_…")]
    pub webhook_secret: SecretString,
}

fn shown_once<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// An empty object: the body of a request that says everything in its path.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Nothing, example = json!({}))]
pub struct NothingBody {}
