//! Pages of the record, by keyset: a cursor names the last row that was seen, so a page costs the same wherever it is, and
//! rows that arrive meanwhile shift nothing.
//!
//! Lists that stand newest first go by `seq`, the order in which rows were recorded. What a cursor is and where a page ends
//! stands here once; the databases only ask for rows.

use nexus_engine::ids::UserId;

use crate::directory::{Page, PageRequest};

/// The largest page.
const LIMIT_MAX: u32 = 1_000;

/// How many rows to ask for: one more than the page holds, for when it is there, there is more.
pub(super) fn rows_wanted(page: &PageRequest) -> u32 {
    limit(page) + 1
}

/// The page that the rows make.
pub(super) fn cut<T>(mut items: Vec<T>, page: &PageRequest, cursor: impl Fn(&T) -> String) -> Page<T> {
    let size = usize::try_from(limit(page)).unwrap_or(usize::MAX);
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}

/// The same for rows that come with their sequence number, which is the cursor.
pub(super) fn cut_by_sequence<T>(items: Vec<(i64, T)>, page: &PageRequest) -> Page<T> {
    let found = cut(items, page, |(seq, _)| seq.to_string());
    Page { items: found.items.into_iter().map(|(_, item)| item).collect(), next: found.next }
}

/// Where a list that stands by its ids goes on: after an id, at the beginning, or nowhere, when the cursor is not one of ours.
pub(super) fn id_cursor(page: &PageRequest) -> Option<Option<UserId>> {
    match &page.after {
        None => Some(None),
        Some(text) => text.parse().ok().map(Some),
    }
}

/// The number that a cursor names, or where the list begins; none for a cursor that is not one of ours.
pub(super) fn sequence_cursor(page: &PageRequest, start: i64) -> Option<i64> {
    page.after.as_ref().map_or(Some(start), |text| text.parse().ok())
}

/// What a cursor that is not ours is answered with.
pub(super) fn empty<T>() -> Page<T> {
    Page { items: Vec::new(), next: None }
}

fn limit(page: &PageRequest) -> u32 {
    page.limit.clamp(1, LIMIT_MAX)
}
