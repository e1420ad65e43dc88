//! The workload file of benchmarks/cpp/workload_file.h.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;

const MAGIC: u64 = 0x3130_3030_574b_564b;

pub struct Event {
    pub slot: usize,
    pub parent: Option<u64>,
    blocks: Range<usize>,
}

/// Flat arrays: what a process holds before it fills an index are a few large allocations.
pub struct Workload {
    pub events: Vec<Event>,
    names: Vec<u64>,
    labels: Vec<u64>,
    lookups: Vec<Range<usize>>,
    asked: Vec<u64>,
}

fn read_words(file: &mut impl Read, count: usize) -> io::Result<Vec<u64>> {
    let mut words = Vec::with_capacity(count);
    let mut word = [0u8; 8];
    for _ in 0..count {
        file.read_exact(&mut word)?;
        words.push(u64::from_le_bytes(word));
    }
    Ok(words)
}

impl Workload {
    pub fn read(path: &str) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let head = read_words(&mut file, 5)?;
        if head[0] != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no workload"));
        }
        let [events, blocks, lookups, asked] = [1, 2, 3, 4].map(|i| head[i] as usize);
        let mut begin = 0;
        let events = read_words(&mut file, events * 4)?
            .chunks_exact(4)
            .map(|row| {
                let first = begin;
                begin += row[3] as usize;
                Event {
                    slot: row[0] as usize,
                    parent: (row[1] != 0).then_some(row[2]),
                    blocks: first..begin,
                }
            })
            .collect();
        let names = read_words(&mut file, blocks)?;
        let labels = read_words(&mut file, blocks)?;
        let mut begin = 0;
        let lookups = read_words(&mut file, lookups)?
            .iter()
            .map(|&length| {
                let first = begin;
                begin += length as usize;
                first..begin
            })
            .collect();
        let asked = read_words(&mut file, asked)?;
        Ok(Self { events, names, labels, lookups, asked })
    }

    /// Gives all blocks other names and labels, which differ by `key`; the lookups stay.
    pub fn relabel(&mut self, key: u64) {
        for word in self.names.iter_mut().chain(&mut self.labels) {
            *word ^= key;
        }
        for parent in self.events.iter_mut().filter_map(|event| event.parent.as_mut()) {
            *parent ^= key;
        }
    }

    pub fn slots(&self) -> usize {
        self.events.iter().map(|event| event.slot + 1).max().unwrap_or(0)
    }

    pub fn block_holders(&self) -> usize {
        self.names.len()
    }

    pub fn names(&self, event: usize) -> &[u64] {
        &self.names[self.events[event].blocks.clone()]
    }

    pub fn labels(&self, event: usize) -> &[u64] {
        &self.labels[self.events[event].blocks.clone()]
    }

    pub fn lookups(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.lookups.iter().map(|range| &self.asked[range.clone()])
    }
}
