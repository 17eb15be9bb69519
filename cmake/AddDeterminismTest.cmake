# add_unit_test(NAME SOURCES ... LIBRARIES ... [LABELS ...] [MAIN target] [TIMEOUT seconds] [ONE_ENTRY])
#
# A gtest binary, its tests found by ctest when it runs. Default main:
# GTest::gtest_main. ONE_ENTRY: all its tests are one entry of ctest, named as
# the binary: for many short tests that need a GPU, of which each entry would
# start a process only to be skipped where there is none. The entry is skipped
# where a test is skipped and none fails.
include(GoogleTest)
set(one_entry_skipped 77)  # the exit code, tests/support/one_entry_main.cc
function(add_unit_test name)
  cmake_parse_arguments(arg "ONE_ENTRY" "MAIN;TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT arg_MAIN)
    set(arg_MAIN GTest::gtest_main)
    if(arg_ONE_ENTRY)
      set(arg_MAIN one_entry_main)
    endif()
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
  if(arg_ONE_ENTRY)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES
      LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE ${one_entry_skipped})
    return()
  endif()
  gtest_discover_tests(${name} NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    TEST_PREFIX "${name}." PROPERTIES ${labels} TIMEOUT ${arg_TIMEOUT})
endfunction()
