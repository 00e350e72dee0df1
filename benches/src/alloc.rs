//! Counts allocations of single operations, by kind of operation.
//!
//! The global allocator of the harness (`main.rs`) counts for each thread; a count is taken around one operation at a time,
//! in a pass of its own, so that counting never stands in a measured time.

use std::collections::BTreeMap;

use alloc_tracker::{Operation, Session};

/// Allocations of one operation, on average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocations {
    /// How many times memory was asked for, growing included.
    pub count: f64,
    /// How many bytes.
    pub bytes: f64,
}

/// Counts by kind.
pub struct Counter<K> {
    session: Session,
    operations: BTreeMap<K, Operation>,
    name: fn(K) -> &'static str,
}

impl<K: Ord + Copy> Counter<K> {
    /// A counter that calls its kinds so.
    pub fn new(name: fn(K) -> &'static str) -> Self {
        // Its own report on drop would go to stdout and into the build folder.
        Self { session: Session::new().no_stdout().no_file(), operations: BTreeMap::new(), name }
    }

    /// Runs something and counts what this thread allocates meanwhile.
    pub fn count<T>(&mut self, kind: K, work: impl FnOnce() -> T) -> T {
        let session = &self.session;
        let operation = self.operations.entry(kind).or_insert_with(|| session.operation((self.name)(kind)));
        let _span = operation.measure_thread().no_peak().iterations(1);
        work()
    }

    /// The averages, by the names of the kinds.
    pub fn averages(&self) -> BTreeMap<String, Allocations> {
        let report = self.session.to_report();
        let average = |(name, found): (&str, &alloc_tracker::ReportOperation)| {
            let (count, bytes) = (found.allocations().unwrap_or(0.0), found.bytes().unwrap_or(0.0));
            (name.to_owned(), Allocations { count, bytes })
        };
        report.operations().map(average).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn allocations_are_counted_by_kind() {
        let mut counter = Counter::new(|boxed| if boxed { "boxed" } else { "empty" });
        for _ in 0..10 {
            counter.count(true, || black_box(vec![Box::new([0_u8; 64])]));
            counter.count(false, || black_box(7));
        }
        let averages = counter.averages();
        assert!((averages["boxed"].count - 2.0).abs() < 0.01, "{averages:?}");
        assert!((averages["boxed"].bytes - 72.0).abs() < 0.01, "{averages:?}");
        assert!(averages["empty"].count.abs() < 0.01, "{averages:?}");
    }
}
