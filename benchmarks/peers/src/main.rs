//! What bench_peers.py measures of other prefix indexes: the same quantities, in the same way and
//! from the same workload file, as benchmarks/cpp/index_peer_side.cc measures of kvroute's. One
//! measurement a process, printed as one line of JSON.
//!
//!     kvroute-peers INDEX speed|memory|writer|hash FILE [ROUNDS]

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
use index::PeerIndex;
use process_memory::CountingAllocator;
use radix_tree::Radix;
use workload::Workload;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn run<Index: PeerIndex>(mode: &str, workload: Workload, rounds: usize) -> Result<String, String> {
    match mode {
        "speed" => Ok(measure::speed::<Index>(workload, rounds)),
        "memory" => Ok(measure::memory::<Index>(workload)),
        "writer" => measure::writer::<Index>(workload, rounds),
        _ => Err(format!("unknown mode {mode}")),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [index, mode, path] = &arguments[..arguments.len().min(3)] else {
        eprintln!("expected: INDEX speed|memory|writer|hash FILE [ROUNDS]");
        std::process::exit(2);
    };
    let rounds = arguments.get(3).map_or(5, |text| text.parse().expect("ROUNDS is a number"));
    let workload = Workload::read(path).expect("a workload file");
    let result = match (index.as_str(), mode.as_str()) {
        ("dynamo", "hash") => Ok(hashing::measure(&workload, hashing::dynamo)),
        ("chain", "hash") => Ok(hashing::measure(&workload, hashing::chain)),
        ("radix", _) => run::<Radix>(mode, workload, rounds),
        ("crtc", _) => run::<Crtc>(mode, workload, rounds),
        ("chain", _) => run::<Chain<false>>(mode, workload, rounds),
        ("chain_into", _) => run::<Chain<true>>(mode, workload, rounds),
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
