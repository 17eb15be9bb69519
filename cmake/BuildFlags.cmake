# Flags for what is built here; never part of an exported target.
add_library(gtest_determinism_build_flags INTERFACE)
target_compile_features(gtest_determinism_build_flags INTERFACE cxx_std_20)
target_compile_options(gtest_determinism_build_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;$<$<BOOL:${GTEST_DETERMINISM_WERROR}>:-Werror>>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;$<$<BOOL:${GTEST_DETERMINISM_WERROR}>:-Werror=all-warnings>>)
# g++ 12 sees an overlap that cannot be in `"text" + std::string` (GCC bug 105651).
target_compile_options(gtest_determinism_build_flags INTERFACE
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:$<$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>:-Wno-restrict>>)
target_include_directories(gtest_determinism_build_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_include_directories(gtest_determinism_build_flags SYSTEM INTERFACE ${PROJECT_SOURCE_DIR}/third_party)
# Where device code is built. The only macro that says so; no public header reads it.
target_compile_definitions(gtest_determinism_build_flags INTERFACE
  $<$<BOOL:${GTEST_DETERMINISM_HAVE_CUDA}>:GTEST_DETERMINISM_HAVE_CUDA>)
