#pragma once

#include <cstddef>
#include <cstdint>
#include <msgpack.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvroute::testing {

using Payload = std::vector<std::byte>;
using Packer = msgpack::packer<msgpack::sbuffer>;

[[nodiscard]] inline Payload from_hex(std::string_view hex) {
  Payload bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoul(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

/// What `write(packer)` packs.
template <typename Write>
[[nodiscard]] Payload packed(const Write& write) {
  msgpack::sbuffer buffer;
  Packer packer(buffer);
  write(packer);
  const auto* data = reinterpret_cast<const std::byte*>(buffer.data());
  return {data, data + buffer.size()};
}

/// A batch [ts, events, rank] of `count` events that `write(packer)` packs.
template <typename Write>
[[nodiscard]] Payload batch_of(std::uint32_t count, const Write& write,
                               std::optional<std::uint32_t> rank = std::nullopt) {
  return packed([&](Packer& packer) {
    packer.pack_array(3);
    packer.pack(1.5);
    packer.pack_array(count);
    write(packer);
    if (rank) {
      packer.pack(*rank);
    } else {
      packer.pack_nil();
    }
  });
}

/// Blocks of a sequence: block i has the engine hash `first_hash` + i and tokens that follow it.
struct Chain {
  std::uint64_t first_hash = 1;
  std::uint32_t blocks = 1;
  std::uint32_t block_size = 4;
  std::optional<std::uint64_t> parent{};

  [[nodiscard]] std::vector<std::uint64_t> hashes() const {
    std::vector<std::uint64_t> all;
    for (std::uint32_t i = 0; i < blocks; ++i) all.push_back(first_hash + i);
    return all;
  }
  [[nodiscard]] std::vector<std::uint32_t> tokens() const {
    std::vector<std::uint32_t> all;
    for (std::uint32_t i = 0; i < blocks * block_size; ++i) {
      all.push_back(static_cast<std::uint32_t>(first_hash * 1000 + i));
    }
    return all;
  }
};

inline void pack_parent(Packer& packer, const Chain& chain) {
  if (chain.parent) {
    packer.pack(*chain.parent);
  } else {
    packer.pack_nil();
  }
}

/// A stored event as a map, as vLLM sends it from 0.24 on; of these blocks instead of the chain's.
inline void pack_stored_map(Packer& packer, const std::vector<std::uint64_t>& hashes,
                            const Chain& chain, const char* medium) {
  packer.pack_map(8);
  packer.pack("type");
  packer.pack("BlockStored");
  packer.pack("block_hashes");
  packer.pack(hashes);
  packer.pack("parent_block_hash");
  pack_parent(packer, chain);
  packer.pack("token_ids");
  packer.pack(chain.tokens());
  packer.pack("block_size");
  packer.pack(chain.block_size);
  packer.pack("lora_id");
  packer.pack_nil();
  packer.pack("medium");
  packer.pack(medium);
  packer.pack("lora_name");
  packer.pack_nil();
}

inline void pack_stored_map(Packer& packer, const Chain& chain, const char* medium = "GPU") {
  pack_stored_map(packer, chain.hashes(), chain, medium);
}

/// A stored event as an array: with a LoRA's name as vLLM sent it until 0.23, without as SGLang
/// does.
inline void pack_stored_array(Packer& packer, const Chain& chain, const char* medium = "GPU",
                              bool lora_name = true) {
  packer.pack_array(lora_name ? 8 : 7);
  packer.pack("BlockStored");
  packer.pack(chain.hashes());
  pack_parent(packer, chain);
  packer.pack(chain.tokens());
  packer.pack(chain.block_size);
  packer.pack_nil();
  packer.pack(medium);
  if (lora_name) packer.pack_nil();
}

inline void pack_removed_map(Packer& packer, const std::vector<std::uint64_t>& hashes,
                             const char* medium = "GPU") {
  packer.pack_map(3);
  packer.pack("type");
  packer.pack("BlockRemoved");
  packer.pack("block_hashes");
  packer.pack(hashes);
  packer.pack("medium");
  packer.pack(medium);
}

inline void pack_removed_array(Packer& packer, const std::vector<std::uint64_t>& hashes,
                               const char* medium = "GPU") {
  packer.pack_array(3);
  packer.pack("BlockRemoved");
  packer.pack(hashes);
  packer.pack(medium);
}

inline void pack_cleared_map(Packer& packer) {
  packer.pack_map(1);
  packer.pack("type");
  packer.pack("AllBlocksCleared");
}

/// A batch of one stored event.
[[nodiscard]] inline Payload stored_batch(const Chain& chain,
                                          std::optional<std::uint32_t> rank = std::nullopt) {
  return batch_of(1, [&](Packer& packer) { pack_stored_map(packer, chain); }, rank);
}

}  // namespace kvroute::testing
