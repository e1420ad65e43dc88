#include "kvroute/hash/block_hash.h"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hash/block_hash_avx512.h"

namespace kvroute {
namespace {

static_assert(std::endian::native == std::endian::little,
              "block hashes are defined over little-endian token ids");

// Above 240 bytes XXH3 derives 192 bytes of secret from the seed on every call; deriving it once
// for all blocks gives the same hashes.
constexpr std::size_t kLongInput = 240;

template <std::size_t kTokens>
void hash_fixed(const std::uint32_t* tokens, std::uint64_t seed,
                std::span<std::uint64_t> out) noexcept {
  for (std::uint64_t& hash : out) {
    hash = XXH3_64bits_withSeed(tokens, kTokens * sizeof(std::uint32_t), seed);
    tokens += kTokens;
  }
}

void hash_16_tokens(const std::uint32_t* tokens, std::uint64_t seed,
                    std::span<std::uint64_t> out) noexcept {
  const std::size_t done =
      detail::has_avx512() ? detail::hash_16_tokens_avx512(tokens, seed, out) : 0;
  hash_fixed<16>(tokens + done * 16, seed, out.subspan(done));
}

void hash_short(const std::uint32_t* tokens, std::size_t block_size, std::uint64_t seed,
                std::span<std::uint64_t> out) noexcept {
  for (std::uint64_t& hash : out) {
    hash = XXH3_64bits_withSeed(tokens, block_size * sizeof(std::uint32_t), seed);
    tokens += block_size;
  }
}

void hash_long(const std::uint32_t* tokens, std::size_t block_size, std::uint64_t seed,
               std::span<std::uint64_t> out) noexcept {
  std::array<unsigned char, XXH_SECRET_DEFAULT_SIZE> secret;
  XXH3_generateSecret_fromSeed(secret.data(), seed);
  for (std::uint64_t& hash : out) {
    hash = XXH3_64bits_withSecretandSeed(tokens, block_size * sizeof(std::uint32_t), secret.data(),
                                         secret.size(), seed);
    tokens += block_size;
  }
}

}  // namespace

std::uint64_t namespace_seed(const Namespace& name) noexcept {
  std::uint64_t seed = kHashSeed;
  if (!name.lora.empty()) seed += XXH3_64bits_withSeed(name.lora.data(), name.lora.size(), 0);
  if (!name.salt.empty()) seed += XXH3_64bits_withSeed(name.salt.data(), name.salt.size(), 1);
  if (!name.tenant.empty()) seed += XXH3_64bits_withSeed(name.tenant.data(), name.tenant.size(), 2);
  return seed;
}

void hash_blocks(std::span<const std::uint32_t> tokens, std::size_t block_size, std::uint64_t seed,
                 std::span<std::uint64_t> out) noexcept {
  const auto hashes = out.first(full_blocks(tokens.size(), block_size));
  if (hashes.empty()) return;
  switch (block_size) {
    case 16: return hash_16_tokens(tokens.data(), seed, hashes);
    case 32: return hash_fixed<32>(tokens.data(), seed, hashes);
    default: break;
  }
  if (block_size * sizeof(std::uint32_t) > kLongInput) {
    hash_long(tokens.data(), block_size, seed, hashes);
  } else {
    hash_short(tokens.data(), block_size, seed, hashes);
  }
}

std::vector<std::uint64_t> hash_blocks(std::span<const std::uint32_t> tokens,
                                       std::size_t block_size, std::uint64_t seed) {
  std::vector<std::uint64_t> hashes(full_blocks(tokens.size(), block_size));
  hash_blocks(tokens, block_size, seed, hashes);
  return hashes;
}

std::uint64_t hash_block_with_extra(std::span<const std::uint32_t> tokens,
                                    std::span<const std::uint64_t> extra, std::uint64_t seed) {
  std::vector<unsigned char> bytes(tokens.size_bytes() + extra.size_bytes());
  if (!tokens.empty()) std::memcpy(bytes.data(), tokens.data(), tokens.size_bytes());
  if (!extra.empty()) {
    std::memcpy(bytes.data() + tokens.size_bytes(), extra.data(), extra.size_bytes());
  }
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

void sequence_hashes(std::span<const std::uint64_t> local, std::span<std::uint64_t> out,
                     std::uint64_t seed) noexcept {
  if (local.empty()) return;
  std::array<std::uint64_t, 2> link{local[0], 0};
  out[0] = link[0];
  for (std::size_t i = 1; i < local.size(); ++i) {
    link[1] = local[i];
    link[0] = XXH3_64bits_withSeed(link.data(), sizeof(link), seed);
    out[i] = link[0];
  }
}

std::uint64_t hash_identifier(std::string_view identifier) noexcept {
  constexpr std::size_t kDigestDigits = 64;
  constexpr std::size_t kUsedDigits = 16;
  const auto is_hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  bool digest = identifier.size() == kDigestDigits;
  for (std::size_t i = 0; digest && i < identifier.size(); ++i) digest = is_hex(identifier[i]);
  if (!digest) return XXH3_64bits_withSeed(identifier.data(), identifier.size(), 0);
  std::uint64_t value = 0;
  std::from_chars(identifier.data(), identifier.data() + kUsedDigits, value, 16);
  return value;
}

}  // namespace kvroute
