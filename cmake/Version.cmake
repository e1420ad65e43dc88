# The version stands in pyproject.toml alone; scikit-build-core hands it on, other builds read it.
if(DEFINED SKBUILD_PROJECT_VERSION)
  set(KVROUTE_VERSION ${SKBUILD_PROJECT_VERSION})
else()
  file(STRINGS "${CMAKE_CURRENT_SOURCE_DIR}/pyproject.toml" KVROUTE_VERSION_LINE
       REGEX "^version = \"[0-9.]+\"$")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" KVROUTE_VERSION "${KVROUTE_VERSION_LINE}")
  if(NOT KVROUTE_VERSION)
    message(FATAL_ERROR "pyproject.toml: expected a line like version = \"1.2.3\"")
  endif()
endif()
