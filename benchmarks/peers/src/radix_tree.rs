//! Dynamo's RadixTree, which one thread reads and writes.

use std::time::Instant;

use dynamo_kv_router::RadixTree;

use crate::dynamo_events::{deepest, DynamoInput};
use crate::index::{Change, Lookup, PeerIndex};
use crate::measure::thread_seconds;

pub struct Radix {
    tree: RadixTree,
}

impl PeerIndex for Radix {
    type Input = DynamoInput;

    fn create(_slots: usize) -> Self {
        Self { tree: RadixTree::new() }
    }

    fn write(&mut self, input: &DynamoInput, changes: &[Change]) -> f64 {
        let events: Vec<_> = changes.iter().map(|&change| input.event(change)).collect();
        let begin = thread_seconds();
        for event in events {
            self.tree.apply_event(event).expect("an event that applies");
        }
        thread_seconds() - begin
    }

    fn lookup(&self, input: &DynamoInput, number: usize) -> Lookup {
        let labels = input.lookups[number].clone(); // taken by value
        let begin = Instant::now();
        let answer = self.tree.find_matches(labels, false);
        let nanoseconds = begin.elapsed().as_nanos() as f64;
        Lookup { nanoseconds, depth: deepest(&answer) }
    }

    fn held(&self) -> usize {
        self.tree.current_size()
    }
}
