# Every dependency, in one place: an installed copy first, a pinned download otherwise.
#
# FETCHCONTENT_SOURCE_DIR_<NAME>=DIR takes an unpacked source instead of both. The downloads name
# tags of the projects' public sources; this path was configured and built only from unpacked
# sources, never over the network.
include(FetchContent)
find_package(PkgConfig QUIET)

# Headers of dependencies that are built here give no warnings; CMake knows how from 3.25 on.
set(kvroute_system "")
if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.25)
  set(kvroute_system SYSTEM)
endif()

# Abseil: hash tables.
FetchContent_Declare(
  absl
  GIT_REPOSITORY https://github.com/abseil/abseil-cpp.git
  GIT_TAG 20240722.0
  ${kvroute_system} FIND_PACKAGE_ARGS NAMES absl)

# tsl-robin-map: hash tables.
FetchContent_Declare(
  tsl-robin-map
  GIT_REPOSITORY https://github.com/Tessil/robin-map.git
  GIT_TAG v1.3.0
  ${kvroute_system} FIND_PACKAGE_ARGS NAMES tsl-robin-map)

set(ABSL_PROPAGATE_CXX_STD ON)
FetchContent_MakeAvailable(absl tsl-robin-map)

# Puts a source tree at <name>_SOURCE_DIR without building it: it has no such subfolder.
macro(kvroute_fetch_source name repository tag)
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag}
                       SOURCE_SUBDIR not-built-here)
  FetchContent_MakeAvailable(${name})
endmacro()

# Header-only libraries without CMake packages in Debian: the folder that holds the header.
function(kvroute_header_library name header repository tag subdirectory)
  string(TOUPPER ${name} upper)
  if(NOT FETCHCONTENT_SOURCE_DIR_${upper})
    find_path(KVROUTE_${upper}_INCLUDE_DIR ${header})
    set(include_dir ${KVROUTE_${upper}_INCLUDE_DIR})
  endif()
  if(NOT include_dir)
    kvroute_fetch_source(${name} ${repository} ${tag})
    set(include_dir ${${name}_SOURCE_DIR}/${subdirectory})
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

# libzmq: the installed one, or a static one without extras, from the source that is given (the
# wheel) or downloaded.
if(KVROUTE_LIBZMQ_SOURCE)
  set(FETCHCONTENT_SOURCE_DIR_LIBZMQ ${KVROUTE_LIBZMQ_SOURCE})
elseif(NOT FETCHCONTENT_SOURCE_DIR_LIBZMQ AND PKG_CONFIG_FOUND)
  pkg_check_modules(KVROUTE_LIBZMQ IMPORTED_TARGET libzmq)
endif()
if(KVROUTE_LIBZMQ_FOUND)
  set(kvroute_libzmq_target PkgConfig::KVROUTE_LIBZMQ)
else()
  kvroute_fetch_source(libzmq https://github.com/zeromq/libzmq.git v4.3.5)
  foreach(extra BUILD_SHARED BUILD_TESTS ZMQ_BUILD_TESTS WITH_PERF_TOOL WITH_DOCS WITH_DOC
                ENABLE_CURVE WITH_LIBSODIUM WITH_LIBBSD WITH_OPENPGM WITH_NORM WITH_VMCI WITH_TLS
                ENABLE_WS ENABLE_DRAFTS ENABLE_PRECOMPILED)
    set(${extra} OFF CACHE BOOL "" FORCE)
  endforeach()
  set(BUILD_STATIC ON CACHE BOOL "" FORCE)
  set(CMAKE_POLICY_DEFAULT_CMP0063 NEW) # hidden visibility for its objects too
  add_subdirectory(${libzmq_SOURCE_DIR} libzmq EXCLUDE_FROM_ALL)
  set(kvroute_libzmq_target libzmq-static)
endif()
add_library(kvroute_cppzmq INTERFACE)
target_link_libraries(kvroute_cppzmq INTERFACE kvroute::zmqhpp ${kvroute_libzmq_target})
add_library(kvroute::cppzmq ALIAS kvroute_cppzmq)

if(KVROUTE_BUILD_TESTS)
  FetchContent_Declare(
    googletest
    GIT_REPOSITORY https://github.com/google/googletest.git
    GIT_TAG v1.15.2
    ${kvroute_system} FIND_PACKAGE_ARGS NAMES GTest)
  FetchContent_MakeAvailable(googletest)
endif()

if(KVROUTE_BUILD_BENCHMARKS)
  set(BENCHMARK_ENABLE_TESTING OFF)
  FetchContent_Declare(
    benchmark
    GIT_REPOSITORY https://github.com/google/benchmark.git
    GIT_TAG v1.9.0
    ${kvroute_system} FIND_PACKAGE_ARGS NAMES benchmark)
  FetchContent_MakeAvailable(benchmark)
endif()

if(KVROUTE_BUILD_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  find_package(pybind11 3.0.2 CONFIG REQUIRED)
endif()
