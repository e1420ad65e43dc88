//! Block hashes of prompts. The workload's lookups are the prompts' token ids.

use std::hint::black_box;
use std::time::Instant;

use dynamo_kv_router::compute_block_hash_for_seq;
use dynamo_kv_router::protocols::BlockHashOptions;
use kv_index::compute_request_content_hashes;

use crate::measure::quantile;
use crate::workload::Workload;

const RUNS: usize = 400;
const BLOCK_SIZE: usize = 16;

/// What one run took, in nanoseconds, and the hashes.
type Timed = (f64, Vec<u64>);

pub fn dynamo(tokens: &[u32]) -> Timed {
    let begin = Instant::now();
    let hashes = compute_block_hash_for_seq(tokens, BLOCK_SIZE as u32, BlockHashOptions::default());
    let nanoseconds = begin.elapsed().as_nanos() as f64;
    (nanoseconds, hashes.into_iter().map(|hash| hash.0).collect())
}

pub fn chain(tokens: &[u32]) -> Timed {
    let begin = Instant::now();
    let hashes = compute_request_content_hashes(tokens, BLOCK_SIZE);
    let nanoseconds = begin.elapsed().as_nanos() as f64;
    (nanoseconds, hashes.into_iter().map(|hash| hash.0).collect())
}

pub fn measure(workload: &Workload, hash: fn(&[u32]) -> Timed) -> String {
    let mut checksum = 0u64;
    let mut fields = String::new();
    for asked in workload.lookups() {
        let tokens: Vec<u32> = asked.iter().map(|&token| token as u32).collect();
        let mut times = Vec::with_capacity(RUNS);
        for run in 0..RUNS {
            let (nanoseconds, hashes) = hash(black_box(&tokens));
            times.push(nanoseconds);
            if run == 0 {
                let add = |sum: u64, &hash: &u64| sum.wrapping_mul(31).wrapping_add(hash);
                checksum = hashes.iter().fold(checksum, add);
            }
        }
        let median = quantile(&mut times, 0.5) * 1e-3;
        fields += &format!("\"hash_{}_us\": {median}, ", tokens.len());
    }
    format!("{{{fields}\"checksum\": {checksum}}}")
}
