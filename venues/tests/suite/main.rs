//! What venues are held to.
//!
//! `contract` is the same for every venue and generic over a [`contract::Stage`]; `paper` puts the paper venue on it and
//! adds what only that one can do; the others look at the paper venue's book, its journal and its worst day.

mod common;
mod contract;

mod book_properties;
mod crash;
mod hostile;
mod journal;
mod paper;
