#include "tier_name.h"

#include <array>
#include <string>

#include "arguments.h"
#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

constexpr std::array<const char*, kTiers> kTierNames = {"device", "host", "disk", "external"};

}  // namespace

Tier tier_of(py::handle object, const char* field) {
  if (PyUnicode_Check(object.ptr())) {
    const auto name = *text_or_none(object, field);
    for (std::size_t i = 0; i < kTiers; ++i) {
      if (name == kTierNames[i]) return static_cast<Tier>(i);
    }
  }
  throw InvalidArgument(std::string(field) +
                        ": expected 'device', 'host', 'disk' or 'external', got " +
                        describe(object));
}

py::str to_python(Tier tier) { return kTierNames[index_of(tier)]; }

}  // namespace kvroute::python
