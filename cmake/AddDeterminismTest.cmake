# add_unit_test(NAME SOURCES ... LIBRARIES ... [LABELS ...] [MAIN target] [TIMEOUT seconds])
#
# A gtest binary, its tests found by ctest when it runs. Default main:
# GTest::gtest_main.
include(GoogleTest)
function(add_unit_test name)
  cmake_parse_arguments(arg "" "MAIN;TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT arg_MAIN)
    set(arg_MAIN GTest::gtest_main)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    math(EXPR arg_TIMEOUT "5 * ${arg_TIMEOUT}")  # instrumented code is that much slower
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE gtest_determinism_build_flags ${arg_LIBRARIES} ${arg_MAIN} GTest::gmock)
  # A list as one value loses all but its first entry in CMake 3.25; the key is
  # therefore written once for each label.
  set(labels)
  foreach(label IN LISTS arg_LABELS)
    list(APPEND labels LABELS ${label})
  endforeach()
  gtest_discover_tests(${name} NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    TEST_PREFIX "${name}." PROPERTIES ${labels} TIMEOUT ${arg_TIMEOUT})
endfunction()
