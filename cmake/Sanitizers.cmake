# Sanitizers apply to everything built here: mixed builds report nonsense.
if(KVROUTE_SANITIZERS)
  list(JOIN KVROUTE_SANITIZERS "," KVROUTE_SANITIZER_LIST)
  add_compile_options(-fsanitize=${KVROUTE_SANITIZER_LIST} -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC sees uses of uninitialised values in instrumented code that are none.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
  add_link_options(-fsanitize=${KVROUTE_SANITIZER_LIST})
  if("undefined" IN_LIST KVROUTE_SANITIZERS)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()
