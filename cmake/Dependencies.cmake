# Every dependency, in one place: an installed copy first, a pinned download otherwise.
#
# The downloads name tags of the projects' public sources. They have been configured only from
# unpacked sources (FETCHCONTENT_SOURCE_DIR_<NAME>=DIR), never over the network.
include(FetchContent)
find_package(PkgConfig QUIET)

# Abseil: hash tables.
FetchContent_Declare(
  absl
  GIT_REPOSITORY https://github.com/abseil/abseil-cpp.git
  GIT_TAG 20240722.0
  SYSTEM FIND_PACKAGE_ARGS NAMES absl)

# tsl-robin-map: hash tables.
FetchContent_Declare(
  tsl-robin-map
  GIT_REPOSITORY https://github.com/Tessil/robin-map.git
  GIT_TAG v1.3.0
  SYSTEM FIND_PACKAGE_ARGS NAMES tsl-robin-map)

set(ABSL_PROPAGATE_CXX_STD ON)
FetchContent_MakeAvailable(absl tsl-robin-map)

# Header-only libraries without CMake packages in Debian: the folder that holds the header.
function(kvroute_header_library name header repository tag subdirectory)
  string(TOUPPER ${name} upper)
  find_path(KVROUTE_${upper}_INCLUDE_DIR ${header})
  set(include_dir ${KVROUTE_${upper}_INCLUDE_DIR})
  if(NOT include_dir)
    FetchContent_Declare(kvroute_${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag})
    FetchContent_GetProperties(kvroute_${name})
    if(NOT kvroute_${name}_POPULATED)
      FetchContent_Populate(kvroute_${name})
    endif()
    set(include_dir ${kvroute_${name}_SOURCE_DIR}/${subdirectory})
  endif()
  add_library(kvroute_${name} INTERFACE)
  target_include_directories(kvroute_${name} SYSTEM INTERFACE ${include_dir})
  add_library(kvroute::${name} ALIAS kvroute_${name})
endfunction()

kvroute_header_library(xxhash xxhash.h https://github.com/Cyan4973/xxHash.git v0.8.2 .)
kvroute_header_library(msgpack msgpack.hpp https://github.com/msgpack/msgpack-c.git cpp-6.1.1
                       include)
target_compile_definitions(kvroute_msgpack INTERFACE MSGPACK_NO_BOOST)
kvroute_header_library(zmqhpp zmq.hpp https://github.com/zeromq/cppzmq.git v4.10.0 .)

# libzmq: a static one of our own where its source is given (the wheel), else the installed one.
if(KVROUTE_LIBZMQ_SOURCE)
  set(BUILD_SHARED OFF CACHE BOOL "" FORCE)
  set(BUILD_STATIC ON CACHE BOOL "" FORCE)
  set(BUILD_TESTS OFF CACHE BOOL "" FORCE)
  set(ZMQ_BUILD_TESTS OFF CACHE BOOL "" FORCE)
  set(WITH_PERF_TOOL OFF CACHE BOOL "" FORCE)
  set(WITH_DOCS OFF CACHE BOOL "" FORCE)
  set(WITH_DOC OFF CACHE BOOL "" FORCE)
  set(ENABLE_CURVE OFF CACHE BOOL "" FORCE)
  set(WITH_LIBSODIUM OFF CACHE BOOL "" FORCE)
  set(WITH_LIBBSD OFF CACHE BOOL "" FORCE)
  set(WITH_OPENPGM OFF CACHE BOOL "" FORCE)
  set(WITH_NORM OFF CACHE BOOL "" FORCE)
  set(WITH_VMCI OFF CACHE BOOL "" FORCE)
  set(WITH_TLS OFF CACHE BOOL "" FORCE)
  set(ENABLE_WS OFF CACHE BOOL "" FORCE)
  set(ENABLE_DRAFTS OFF CACHE BOOL "" FORCE)
  set(ENABLE_PRECOMPILED OFF CACHE BOOL "" FORCE)
  add_subdirectory(${KVROUTE_LIBZMQ_SOURCE} libzmq EXCLUDE_FROM_ALL)
  set(kvroute_libzmq_target libzmq-static)
else()
  pkg_check_modules(KVROUTE_LIBZMQ REQUIRED IMPORTED_TARGET libzmq)
  set(kvroute_libzmq_target PkgConfig::KVROUTE_LIBZMQ)
endif()
add_library(kvroute_cppzmq INTERFACE)
target_link_libraries(kvroute_cppzmq INTERFACE kvroute::zmqhpp ${kvroute_libzmq_target})
add_library(kvroute::cppzmq ALIAS kvroute_cppzmq)

if(KVROUTE_BUILD_TESTS)
  FetchContent_Declare(
    googletest
    GIT_REPOSITORY https://github.com/google/googletest.git
    GIT_TAG v1.15.2
    SYSTEM FIND_PACKAGE_ARGS NAMES GTest)
  FetchContent_MakeAvailable(googletest)
endif()

if(KVROUTE_BUILD_BENCHMARKS)
  set(BENCHMARK_ENABLE_TESTING OFF)
  FetchContent_Declare(
    benchmark
    GIT_REPOSITORY https://github.com/google/benchmark.git
    GIT_TAG v1.9.0
    SYSTEM FIND_PACKAGE_ARGS NAMES benchmark)
  FetchContent_MakeAvailable(benchmark)
endif()

if(KVROUTE_BUILD_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  find_package(pybind11 3.0.2 CONFIG REQUIRED)
endif()
