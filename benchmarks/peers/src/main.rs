//! What bench_peers.py measures of other prefix indexes: the same quantities, in the same way and
//! from the same workload file, as benchmarks/cpp/index_peer_side.cc measures of kvroute's. One
//! measurement a process, printed as one line of JSON.
//!
//!     kvroute-peers INDEX speed|hash FILE [ROUNDS]
//!     kvroute-peers INDEX memory FILE CYCLES
//!     kvroute-peers INDEX readers FILE ROUNDS READERS

mod chain;
mod crtc;
mod dynamo_events;
mod hashing;
mod index;
mod measure;
mod process_memory;
mod radix_tree;
mod workload;

use chain::Chain;
use crtc::Crtc;
use index::{ConcurrentIndex, PeerIndex};
use process_memory::CountingAllocator;
use radix_tree::Radix;
use workload::Workload;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Rounds or cycles, and readers.
type Numbers = [usize; 2];

fn run<Index: PeerIndex>(
    mode: &str,
    workload: Workload,
    numbers: Numbers,
) -> Result<String, String> {
    match mode {
        "speed" => Ok(measure::speed::<Index>(workload, numbers[0])),
        "memory" => Ok(measure::memory::<Index>(workload, numbers[0])),
        _ => Err(format!("this index has no {mode}")),
    }
}

fn run_concurrent<Index: ConcurrentIndex>(
    mode: &str,
    workload: Workload,
    numbers: Numbers,
) -> Result<String, String> {
    match mode {
        "readers" => measure::readers::<Index>(workload, numbers[0], numbers[1]),
        _ => run::<Index>(mode, workload, numbers),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [index, mode, path] = &arguments[..arguments.len().min(3)] else {
        eprintln!("expected: INDEX speed|memory|readers|hash FILE [ROUNDS [READERS]]");
        std::process::exit(2);
    };
    let number = |at, default| {
        let parsed = arguments.get(at).map(|text: &String| text.parse().expect("a number"));
        parsed.unwrap_or(default)
    };
    let numbers = [number(3, 5), number(4, 1)];
    let workload = Workload::read(path).expect("a workload file");
    let result = match (index.as_str(), mode.as_str()) {
        ("dynamo", "hash") => Ok(hashing::measure(&workload, hashing::dynamo)),
        ("chain", "hash") => Ok(hashing::measure(&workload, hashing::chain)),
        ("radix", _) => run::<Radix>(mode, workload, numbers),
        ("crtc", _) => run_concurrent::<Crtc>(mode, workload, numbers),
        ("chain", _) => run_concurrent::<Chain<false>>(mode, workload, numbers),
        ("chain_into", _) => run_concurrent::<Chain<true>>(mode, workload, numbers),
        _ => Err(format!("unknown index {index}")),
    };
    match result {
        Ok(line) => println!("{line}"),
        Err(message) => {
            eprintln!("kvroute-peers: {message}");
            std::process::exit(1);
        }
    }
}
