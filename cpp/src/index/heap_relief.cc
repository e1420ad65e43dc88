#include "index/heap_relief.h"

#include <cstdlib>  // defines __GLIBC__, where it is

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace kvroute::detail {

void HeapRelief::give_back() noexcept {
#ifdef __GLIBC__
  static_cast<void>(malloc_trim(0));
#endif
}

}  // namespace kvroute::detail
