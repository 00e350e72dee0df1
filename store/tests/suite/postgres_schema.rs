//! What docs/STORES.md draws of the schema is what a server has: tables, columns, types, keys, views.
//!
//! `UPDATE_REFERENCE=1 cargo test -p nexus-store stores_document` writes the tables of the diagram anew; its lines are drawn by
//! people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sqlx::{PgConnection, Row};

use crate::contract::Database;
use crate::server::PostgresDatabase;

const FENCE: &str = "```mermaid\nerDiagram\n";
/// Between the lines and the tables of the diagram.
const TABLES_BEGIN: &str = "    users {\n";

#[tokio::test]
async fn the_stores_document_draws_the_schema_as_it_is() {
    let database = PostgresDatabase::fresh().await;
    let raw = &mut database.raw().await;
    let (text, tables) = (document(), tables(raw).await);
    let drawn = diagram(&text);
    let (lines, blocks) = drawn.split_at(drawn.find(TABLES_BEGIN).expect("the diagram begins with users"));

    let generated = blocks_of(&order_in(blocks), &tables);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path(), text.replace(blocks, &generated)).unwrap();
    } else {
        let hint = "docs/STORES.md is out of date: run this test with UPDATE_REFERENCE=1";
        assert!(blocks == generated, "{hint}\n{generated}");
    }

    let relations: Vec<_> = lines.lines().map(relation).collect();
    let strangers = relations.iter().filter(|line| !tables.contains_key(&line.from) || !tables.contains_key(&line.to));
    assert_eq!(strangers.count(), 0, "a line leads to a table that is not there");
    let solid = relations.iter().filter(|line| line.is_solid).map(|line| (line.from.clone(), line.to.clone()));
    assert_eq!(solid.collect::<BTreeSet<_>>(), foreign_keys(raw).await);
}

#[tokio::test]
async fn the_stores_document_names_every_view() {
    let database = PostgresDatabase::fresh().await;
    let sql = "SELECT table_name::text FROM information_schema.views WHERE table_schema = 'public'";
    let there: BTreeSet<String> =
        sqlx::query_scalar(sql).fetch_all(&mut database.raw().await).await.unwrap().into_iter().collect();
    let text = document();
    let named =
        text.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| word.starts_with("v_") && word.len() > 2);
    assert_eq!(named.map(ToOwned::to_owned).collect::<BTreeSet<_>>(), there);
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/STORES.md")
}

fn document() -> String {
    std::fs::read_to_string(path()).unwrap()
}

fn diagram(text: &str) -> &str {
    let (_, rest) = text.split_once(FENCE).expect("a diagram");
    rest.split_once("```").expect("an end of the diagram").0
}

/// A line of the diagram: `users ||--|| limits : "has"`.
struct Relation {
    from: String,
    to: String,
    is_solid: bool,
}

fn relation(line: &str) -> Relation {
    let words: Vec<_> = line.split_whitespace().take(3).collect();
    let [from, kind, to] = words[..] else { panic!("not a line of the diagram: {line}") };
    Relation { from: from.into(), to: to.into(), is_solid: kind.contains("--") }
}

/// The tables in the order in which they are drawn.
fn order_in(blocks: &str) -> Vec<&str> {
    blocks.lines().filter_map(|line| line.strip_suffix(" {")).map(str::trim).collect()
}

/// The drawn tables, those that nobody has drawn yet last.
fn blocks_of(drawn: &[&str], tables: &BTreeMap<String, Vec<String>>) -> String {
    let fresh = tables.keys().map(String::as_str).filter(|name| !drawn.contains(name));
    let ordered = drawn.iter().copied().chain(fresh).filter_map(|name| Some((name, tables.get(name)?)));
    ordered.map(|(name, columns)| format!("    {name} {{\n{}    }}\n", columns.concat())).collect()
}

/// The lines of every table but the partitions: type, name and whether it is part of the primary key.
async fn tables(connection: &mut PgConnection) -> BTreeMap<String, Vec<String>> {
    let sql =
        "SELECT c.relname::text, replace(format_type(a.atttypid, NULL), 'timestamp with time zone', 'timestamptz'),
                      a.attname::text, coalesce(a.attnum = ANY (i.indkey), false)
                 FROM pg_class c
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                ORDER BY c.relname, a.attnum";
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for row in sqlx::query(sql).fetch_all(connection).await.unwrap() {
        let (kind, name, is_key): (String, String, bool) = (row.get(1), row.get(2), row.get(3));
        let line = format!("        {kind} {name}{}\n", if is_key { " PK" } else { "" });
        tables.entry(row.get(0)).or_default().push(line);
    }
    tables
}

/// From the table that is referred to, to the one that refers.
async fn foreign_keys(connection: &mut PgConnection) -> BTreeSet<(String, String)> {
    let sql = "SELECT confrelid::regclass::text, conrelid::regclass::text FROM pg_constraint
                WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conparentid = 0";
    let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
