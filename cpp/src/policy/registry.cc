// Every policy by its name.

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/policy/cache_aware.h"
#include "kvroute/policy/gate.h"
#include "kvroute/policy/kv_cost.h"
#include "kvroute/policy/kv_delay.h"
#include "kvroute/policy/kvaware.h"
#include "kvroute/policy/least_load.h"
#include "kvroute/policy/least_loaded.h"
#include "kvroute/policy/least_requests.h"
#include "kvroute/policy/load_balanced_kvaware.h"
#include "kvroute/policy/loadaware.h"
#include "kvroute/policy/policy.h"
#include "kvroute/policy/preble.h"
#include "kvroute/policy/prefix_hash.h"
#include "kvroute/policy/prefixaware.h"
#include "kvroute/policy/qps.h"
#include "kvroute/policy/session.h"
#include "kvroute/policy/standalone.h"
#include "kvroute/policy/ttft.h"
#include "kvroute/policy/uninformed.h"
#include "kvroute/policy/weighted.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

using detail::SpecReader;

struct Entry {
  std::string_view name;
  std::unique_ptr<Policy> (*make)(SpecReader& reader);
};

// clang-format off: one a line, so that a new one changes one line
constexpr std::array kEntries{
    Entry{"kv_cost", &KvCost::from},
    Entry{"kv_delay", &KvDelay::from},
    Entry{"ttft", &Ttft::from},
    Entry{"lmetric", &LMetric::from},
    Entry{"weighted", &Weighted::from},
    Entry{"cache_aware", &CacheAware::from},
    Entry{"spill", &Spill::from},
    Entry{"preble", &Preble::from},
    Entry{"dual_map", &DualMap::from},
    Entry{"prefix_hash", &PrefixHash::from},
    Entry{"least_load", &LeastLoad::from},
    Entry{"least_requests", &LeastRequests::from},
    Entry{"power_of_two", &PowerOfTwo::from},
    Entry{"standalone", &Standalone::from},
    Entry{"kvaware", &KvAware::from},
    Entry{"load_balanced_kvaware", &LoadBalancedKvAware::from},
    Entry{"loadaware", &LoadAware::from},
    Entry{"prefixaware", &PrefixAware::from},
    Entry{"session", &Session::from},
    Entry{"qps", &Qps::from},
    Entry{"least_loaded", &LeastLoaded::from},
    Entry{"round_robin", &RoundRobin::from},
    Entry{"random", &RandomChoice::from},
    Entry{"gate", &Gate::from},
};
// clang-format on
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kAliases{{
    {"roundrobin", "round_robin"},
    {"conductor", "ttft"},
}};

constexpr auto names() {
  std::array<std::string_view, kEntries.size()> names;
  std::ranges::transform(kEntries, names.begin(), &Entry::name);
  return names;
}
constexpr auto kNames = names();

std::string_view canonical(std::string_view name) {
  const auto alias = std::ranges::find(kAliases, name, &decltype(kAliases)::value_type::first);
  return alias == kAliases.end() ? name : alias->second;
}

}  // namespace

std::unique_ptr<Policy> detail::make_policy_at(const PolicySpec& spec, std::string place) {
  const auto entry = std::ranges::find(kEntries, canonical(spec.name), &Entry::name);
  if (entry == kEntries.end()) {
    std::string message = place + ": expected one of";
    for (const std::string_view known : kNames) message += " '" + std::string(known) + "'";
    throw InvalidArgument(message + ", got '" + spec.name + "'");
  }
  SpecReader reader(spec, std::move(place));
  auto policy = entry->make(reader);
  reader.finish();
  return policy;
}

std::unique_ptr<Policy> make_policy(const PolicySpec& spec) {
  return detail::make_policy_at(spec, "policy");
}

std::span<const std::string_view> policy_names() noexcept { return kNames; }

}  // namespace kvroute
