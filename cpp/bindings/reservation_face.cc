#include "reservation_face.h"

#include <limits>
#include <new>
#include <optional>
#include <span>

#include "arguments.h"
#include "gil_release.h"
#include "integer_input.h"
#include "kvroute/base/error.h"

namespace kvroute::python {

ReservationFace::~ReservationFace() {
  if (!router_.is_home()) return;
  const GilRelease released;
  try {
    if (!released_) router_.get().release(handle_);
  } catch (const std::bad_alloc&) {
    released_ = true;  // as far as this object goes: the booking ends with its time
  }
  router_.reset();
}

Router& ReservationFace::use() const {
  if (router_.is_home()) return router_.get();
  throw Error("Reservation: it was made before a fork, and belongs to the parent process");
}

void ReservationFace::first_token() {
  Router& router = use();
  if (released_) return;
  const GilRelease released;
  router.first_token(handle_.id);
}

void ReservationFace::progress(py::handle output_tokens) {
  const std::int64_t tokens =
      integer(output_tokens, "output_tokens", 0, std::numeric_limits<std::int64_t>::max());
  Router& router = use();
  if (released_) return;
  const GilRelease released;
  router.progress(handle_.id, static_cast<std::uint64_t>(tokens));
}

void ReservationFace::release(py::handle output_token_ids) {
  std::optional<TokenIds> output;
  if (!output_token_ids.is_none()) output.emplace(output_token_ids, "output_token_ids");
  Router& router = use();
  if (std::exchange(released_, true)) return;
  const auto tokens = output ? output->values() : std::span<const std::uint32_t>();
  const GilRelease released;
  router.release(handle_, tokens);
}

}  // namespace kvroute::python
