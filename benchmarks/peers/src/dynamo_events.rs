//! The workload as Dynamo's events, which its indexes take by value.

use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, OverlapScores, RouterEvent,
};

use crate::index::{Change, PeerInput};
use crate::workload::Workload;

pub struct DynamoInput {
    workload: Workload,
    pub lookups: Vec<Vec<LocalBlockHash>>,
}

impl PeerInput for DynamoInput {
    fn prepare(workload: Workload) -> Self {
        let lookups = workload
            .lookups()
            .map(|labels| labels.iter().copied().map(LocalBlockHash).collect())
            .collect();
        Self { workload, lookups }
    }

    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn relabel(&mut self, key: u64) {
        self.workload.relabel(key);
    }
}

impl DynamoInput {
    pub fn event(&self, change: Change) -> RouterEvent {
        let (number, data) = match change {
            Change::Store(number) => (number, self.stored(number)),
            Change::Remove(number) => (number, self.removed(number)),
        };
        let event = &self.workload.events[number];
        RouterEvent::new(event.slot as u64, KvCacheEvent { event_id: 0, data, dp_rank: 0 })
    }

    fn stored(&self, number: usize) -> KvCacheEventData {
        let names = self.workload.names(number);
        let labels = self.workload.labels(number);
        KvCacheEventData::Stored(KvCacheStoreData {
            parent_hash: self.workload.events[number].parent.map(ExternalSequenceBlockHash),
            start_position: None,
            blocks: names
                .iter()
                .zip(labels)
                .map(|(&name, &label)| KvCacheStoredBlockData {
                    block_hash: ExternalSequenceBlockHash(name),
                    tokens_hash: LocalBlockHash(label),
                    mm_extra_info: None,
                })
                .collect(),
        })
    }

    fn removed(&self, number: usize) -> KvCacheEventData {
        let names = self.workload.names(number).iter().rev();
        KvCacheEventData::Removed(KvCacheRemoveData {
            block_hashes: names.copied().map(ExternalSequenceBlockHash).collect(),
        })
    }
}

pub fn deepest(answer: &OverlapScores) -> usize {
    answer.scores.values().copied().max().unwrap_or(0) as usize
}
