//! Signals: one, a list, or a stream; decided before they are answered.
//!
//! A list is read whole before anything of it is decided: when one signal in it is wrong in form, none is taken. After that
//! every signal stands for itself, and its answer in its place. Streams are in `ndjson`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use nexus_engine::ids::{FeedId, SignalId};
use nexus_engine::signal::Signal;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::body::{self, BODY_BYTES_MAX, media_type, require_json};
use super::extract::{DryRun, Paging, PathValues, Source, SourceOrAdmin};
use super::ndjson;
use super::problem::Problem;
use crate::wire::fields::FieldError;
use crate::wire::json;
use crate::wire::lists::PagingQuery;
use crate::wire::signals::{DecisionBody, SignalAnswerBody, SignalBody, StoredSignalBody};
use crate::wire::what_if::WhatIfBody;

/// Signals in one list.
const LIST_MAX: usize = 1_000;
/// Signals of one request under way at once, in a list or a stream.
pub const IN_FLIGHT_MAX: usize = 256;

/// What one signal of a list is answered with.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ListedAnswer {
    /// Decided.
    Answer(SignalAnswerBody),
    /// Not decided; says why. It can be sent again.
    Problem(Problem),
}

/// Sends a signal
///
/// One signal, a list of at most 1,000, or a stream of `application/x-ndjson` (answered line by line, in order; a line
/// that is wrong gets a problem on its line and the stream goes on). The answer comes once the decisions are durable.
/// A repeat under the same `id` is safe: it is answered as before, with `duplicate: true`. The id may also be given as
/// header `webhook-id` or `Idempotency-Key` for a single signal.
///
/// A list is refused as a whole when a signal in it is malformed or wrong in a field. Otherwise every signal is answered
/// in its place; status 207 says that some were not decided and carry a problem instead.
///
/// With `dry_run=true` nothing is decided: the answer (`WhatIf`) says how a new signal like this would be decided now, and
/// what each limit would have left. Its id does not matter and is not used up; signals of a list are judged each by itself.
#[utoipa::path(
    post, path = "/api/v1/signals", tag = "Signals",
    request_body(content((SignalBody = "application/json"), (String = "application/x-ndjson"))),
    params(
        ("dry_run" = Option<bool>, Query, description = "`true` asks what would be decided, and changes nothing"),
        ("webhook-id" = Option<String>, Header, description = "What the feed calls the signal, when it has no `id`"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same, when there is no `webhook-id`"),
    ),
    responses(
        (status = 200, description = "Decided (for a list, a list of answers); with `dry_run=true` a `WhatIf` instead",
            body = SignalAnswerBody),
        (status = 202, description = "Some decisions are not durable yet: ask for the signal later", body = SignalAnswerBody),
        (status = 207, description = "A list of which some were not decided", body = Vec<ListedAnswer>),
        (status = 409, description = "The id was used for another signal", body = Problem),
        (status = 429, description = "Too much is under way; see Retry-After", body = Problem),
    ),
    security(("api_key" = []))
)]
pub async fn submit(
    State(app): State<Arc<App>>,
    Source(known): Source,
    DryRun(dry_run): DryRun,
    request: Request,
) -> Result<Response, Problem> {
    if dry_run {
        return what_if(&app, known.feed.id, request).await;
    }
    if media_type(request.headers()) == "application/x-ndjson" {
        return Ok(ndjson::answer(app, known, request.into_body()));
    }
    require_json(request.headers())
        .map_err(|_| Problem::unsupported_media_type("application/json or application/x-ndjson"))?;
    let key = header_key(request.headers())?;
    let feed = known.feed.id;
    let body = body::read(request, BODY_BYTES_MAX, app.settings.bounds.body_timeout).await?;
    if json::is_array(&body) {
        return submit_list(&app, feed, json::decode(&body)?, key).await;
    }
    let answer = submit_one(&app, feed, json::decode(&body)?, key).await?;
    Ok((status_of(&answer), axum::Json(answer)).into_response())
}

/// Says how signals would be decided, each by itself.
async fn what_if(app: &App, feed: FeedId, request: Request) -> Result<Response, Problem> {
    require_json(request.headers())?;
    let body = body::read(request, BODY_BYTES_MAX, app.settings.bounds.body_timeout).await?;
    if !json::is_array(&body) {
        let body: SignalBody = json::decode(&body)?;
        let signal = body.parse(feed, &fresh_key(), app.clock.now())?;
        return Ok(axum::Json(WhatIfBody::of(&app.engine.preview(signal).await?)).into_response());
    }
    let mut answers = Vec::new();
    for signal in parse_list(app, feed, json::decode(&body)?, None)? {
        answers.push(WhatIfBody::of(&app.engine.preview(signal).await?));
    }
    Ok(axum::Json(answers).into_response())
}

fn status_of(answer: &SignalAnswerBody) -> StatusCode {
    if answer.pending.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK }
}

/// The key that the headers give a signal.
fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("webhook-id").or_else(|| headers.get("idempotency-key")) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::malformed("the idempotency key is not plain text"))?;
    Ok(Some(text.to_owned()))
}

/// A key for a signal that has none: it can never be repeated.
fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Has one signal decided.
pub async fn submit_one(
    app: &App,
    feed: FeedId,
    body: SignalBody,
    key: Option<String>,
) -> Result<SignalAnswerBody, Problem> {
    let signal = body.parse(feed, &key.unwrap_or_else(fresh_key), app.clock.now())?;
    Ok(SignalAnswerBody::of(&app.engine.submit(signal).await?))
}

async fn submit_list(
    app: &App,
    feed: FeedId,
    bodies: Vec<SignalBody>,
    key: Option<String>,
) -> Result<Response, Problem> {
    let signals = parse_list(app, feed, bodies, key)?;
    let answers: Vec<Result<SignalAnswerBody, Problem>> = futures::stream::iter(signals)
        .map(|signal| async { Ok(SignalAnswerBody::of(&app.engine.submit(signal).await?)) })
        .buffered(IN_FLIGHT_MAX)
        .collect()
        .await;
    list_response(answers)
}

/// All of a list, or what is wrong with it.
fn parse_list(app: &App, feed: FeedId, bodies: Vec<SignalBody>, key: Option<String>) -> Result<Vec<Signal>, Problem> {
    if bodies.len() > LIST_MAX {
        let message = format!("a list may have at most {LIST_MAX} signals");
        return Err(Problem::invalid_field("", "too_many", message));
    }
    // One key cannot name several signals.
    let key = key.filter(|_| bodies.len() == 1);
    let now = app.clock.now();
    let (mut signals, mut errors) = (Vec::with_capacity(bodies.len()), Vec::new());
    for (index, body) in bodies.into_iter().enumerate() {
        match body.parse(feed, &key.clone().unwrap_or_else(fresh_key), now) {
            Ok(signal) => signals.push(signal),
            Err(found) => {
                errors.extend(found.into_iter().map(|e| FieldError { field: format!("[{index}].{}", e.field), ..e }));
            }
        }
    }
    if errors.is_empty() { Ok(signals) } else { Err(errors.into()) }
}

/// A list that failed altogether in one way is answered with that; otherwise every signal in its place.
fn list_response(answers: Vec<Result<SignalAnswerBody, Problem>>) -> Result<Response, Problem> {
    let failed: Vec<StatusCode> = answers.iter().filter_map(|a| a.as_ref().err().map(Problem::status)).collect();
    let is_one_failure = failed.len() == answers.len() && failed.windows(2).all(|pair| pair[0] == pair[1]);
    if is_one_failure && let Some(Err(problem)) = answers.first() {
        return Err(problem.clone());
    }
    let is_pending = answers.iter().flatten().any(|answer| answer.pending.is_some());
    let status = match (failed.is_empty(), is_pending) {
        (false, _) => StatusCode::MULTI_STATUS,
        (true, true) => StatusCode::ACCEPTED,
        (true, false) => StatusCode::OK,
    };
    let listed = answers.into_iter().map(|answer| answer.map_or_else(ListedAnswer::Problem, ListedAnswer::Answer));
    Ok((status, axum::Json(listed.collect::<Vec<_>>())).into_response())
}

/// Shows a signal
///
/// The stored signal and a page of its decisions. A feed may ask by what it calls the signal, too, and sees its own.
#[utoipa::path(
    get, path = "/api/v1/signals/{signal_id}", tag = "Signals",
    params(("signal_id" = String, Path, description = "The signal's id; for its feed also the feed's own id"), PagingQuery),
    responses((status = 200, description = "The signal", body = StoredSignalBody)),
    security(("api_key" = []), ("token" = []))
)]
pub async fn stored(
    State(app): State<Arc<App>>,
    caller: SourceOrAdmin,
    path: PathValues,
    Paging(query): Paging,
) -> Result<axum::Json<StoredSignalBody>, Problem> {
    let page = query.page()?;
    let named = path.get("signal_id");
    let by_id = named.parse::<SignalId>().ok();
    let by_key = match &caller {
        SourceOrAdmin::Source(known) => Some(SignalId::derive(known.feed.id, named)),
        SourceOrAdmin::Admin => None,
    };
    let mut found = None;
    for id in by_id.into_iter().chain(by_key) {
        found = app.ledger.find_signal(id).await?;
        if found.is_some() {
            break;
        }
    }
    let record = found.ok_or_else(|| Problem::not_found("signal"))?;
    if let SourceOrAdmin::Source(known) = &caller
        && known.feed.id != record.signal.feed
    {
        return Err(Problem::forbidden("a feed sees its own signals alone"));
    }
    let decided = app.ledger.decisions_on(record.signal.id).await?.len();
    let rows = app.directory.signal_decisions(record.signal.id, page).await?;
    let decisions = rows.items.iter().map(|row| DecisionBody::of(&row.decision)).collect();
    Ok(axum::Json(StoredSignalBody::of(&record, decided, decisions, rows.next)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_actors::engine::SubmitError;
    use std::collections::BTreeMap;

    fn answer(pending: Option<usize>) -> Result<SignalAnswerBody, Problem> {
        Ok(SignalAnswerBody {
            signal_id: String::new(),
            duplicate: false,
            decided: 0,
            accepted: 0,
            rejected: 0,
            reasons: BTreeMap::new(),
            pending,
            decisions: Vec::new(),
        })
    }

    #[test]
    fn a_list_says_by_its_status_what_became_of_it() {
        let away = || Err(Problem::from(SubmitError::NotServing("starting")));
        let reused = || Err(Problem::from(SubmitError::KeyReused));
        let table = [
            (vec![], 200),
            (vec![answer(None), answer(None)], 200),
            (vec![answer(None), answer(Some(1))], 202),
            (vec![answer(Some(1)), reused()], 207),
            (vec![reused(), away()], 207),
            (vec![away(), away()], 503),
        ];
        for (answers, expected) in table {
            let response = list_response(answers).unwrap_or_else(IntoResponse::into_response);
            assert_eq!(response.status().as_u16(), expected);
        }
    }

    #[test]
    fn a_webhook_id_goes_before_an_idempotency_key() {
        let mut headers = HeaderMap::new();
        assert_eq!(header_key(&headers).expect("none"), None);
        headers.insert("idempotency-key", "b".parse().expect("a header"));
        assert_eq!(header_key(&headers).expect("one").as_deref(), Some("b"));
        headers.insert("webhook-id", "a".parse().expect("a header"));
        assert_eq!(header_key(&headers).expect("one").as_deref(), Some("a"));
    }
}
