//! `nexus feed`: who may send signals, and who follows them.
//!
//! A feed's key and webhook secret are printed where they are made, to stdout, and nowhere else: the engine keeps no copy
//! that could be asked for later.

use std::process::ExitCode;

use nexus_config::Environ;
use reqwest::Method;
use serde_json::{Value, json};

use super::args::{FeedArgs, FeedCommand};
use super::client::{Body, Client};
use super::output::{self, field};
use super::{feed_replay, marks};

/// Carries out `nexus feed …`.
pub(crate) async fn run(args: &FeedArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let signed_in = || Client::signed_in(&args.client, environ);
    let is_json = args.client.json;
    match &args.command {
        FeedCommand::Replay(replay) => return feed_replay::run(&args.client, replay, environ).await,
        FeedCommand::Marks(push) => return marks::run(&args.client, push, environ).await,
        FeedCommand::Add { name, symbols } => {
            let answer = signed_in().await?.post("/api/v1/feeds", &json!({"name": name, "symbols": symbols})).await?;
            show_secrets(&answer, is_json)?;
        }
        FeedCommand::List => list(&signed_in().await?, is_json).await?,
        FeedCommand::Remove { feed } => {
            let client = signed_in().await?;
            let id = client.id_of("feed", feed).await?;
            client.send(Method::DELETE, &format!("/api/v1/feeds/{id}"), Body::Empty).await?;
            done(&json!({"id": id, "removed": true}), &format!("feed {feed} is removed"), is_json)?;
        }
        FeedCommand::Rotate { feed } => {
            let client = signed_in().await?;
            let id = client.id_of("feed", feed).await?;
            let answer = client.send(Method::POST, &format!("/api/v1/feeds/{id}/rotate-secret"), Body::Empty).await?;
            show_secrets(&answer, is_json)?;
        }
        FeedCommand::Subscribe { feed, user } => {
            follow(&signed_in().await?, feed, user, Method::PUT).await?;
            done(&json!({"feed": feed, "user": user, "subscribed": true}), &format!("{user} follows {feed}"), is_json)?;
        }
        FeedCommand::Unsubscribe { feed, user } => {
            follow(&signed_in().await?, feed, user, Method::DELETE).await?;
            let answer = json!({"feed": feed, "user": user, "subscribed": false});
            done(&answer, &format!("{user} no longer follows {feed}"), is_json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn done(answer: &Value, words: &str, is_json: bool) -> anyhow::Result<()> {
    if is_json { output::json(answer) } else { output::text(words) }
}

fn show_secrets(answer: &Value, is_json: bool) -> anyhow::Result<()> {
    done(answer, &secrets_in_words(answer), is_json)
}

fn secrets_in_words(answer: &Value) -> String {
    let lines = output::pairs(&[
        ("id", field(answer, "id")),
        ("name", field(answer, "name")),
        ("api key", field(answer, "api_key")),
        ("webhook secret", field(answer, "webhook_secret")),
    ]);
    format!("{lines}\nThe key and the secret are shown this once.")
}

async fn list(client: &Client, is_json: bool) -> anyhow::Result<()> {
    let feeds = client.all("/api/v1/feeds").await?;
    if is_json {
        return output::json(&json!({"items": feeds}));
    }
    let symbols = |feed: &Value| match field(feed, "symbols") {
        none if none.is_empty() => "(all)".to_owned(),
        some => some,
    };
    let row = |feed: &Value| [field(feed, "name"), symbols(feed), field(feed, "created_at"), field(feed, "id")];
    let rows: Vec<[String; 4]> = feeds.iter().map(row).collect();
    output::text(&output::table(["NAME", "SYMBOLS", "MADE", "ID"], &rows))
}

async fn follow(client: &Client, feed: &str, user: &str, method: Method) -> anyhow::Result<()> {
    let (feed, user) = (client.id_of("feed", feed).await?, client.id_of("user", user).await?);
    let body = json!({});
    let body = if method == Method::PUT { Body::Json(&body) } else { Body::Empty };
    client.send(method, &format!("/api/v1/feeds/{feed}/subscribers/{user}"), body).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_with_a_word_of_warning() {
        let answer = json!({"id": "f-1", "name": "breakout", "api_key": "nxf_1", "webhook_secret": "whsec_2"});
        let expected = "\
id              f-1
name            breakout
api key         nxf_1
webhook secret  whsec_2
The key and the secret are shown this once.";
        assert_eq!(secrets_in_words(&answer), expected);
    }
}
