# Run at build time (cmake -P): writes OUTPUT with the revision of SOURCE_DIR,
# and touches it only when something changed, so that nothing is rebuilt in vain.
set(revision "unknown")
set(dirty "unknown")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE_DIR} rev-parse HEAD
    OUTPUT_VARIABLE out OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(revision ${out})
    execute_process(COMMAND ${GIT} -C ${SOURCE_DIR} --no-optional-locks status --porcelain --untracked-files=no
      OUTPUT_VARIABLE out OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed AND out STREQUAL "")
      set(dirty "false")
    elseif(NOT failed)
      set(dirty "true")
    endif()
  endif()
endif()
set(text "#ifndef REPORTERS_BUILD_INFO_H_
#define REPORTERS_BUILD_INFO_H_
namespace reporters::build_info {
inline constexpr char kGitRevision[] = \"${revision}\";
inline constexpr char kGitDirty[] = \"${dirty}\";
inline constexpr char kCompiler[] = \"${COMPILER}\";
inline constexpr char kBuildType[] = \"${BUILD_TYPE}\";
inline constexpr char kBuildFlags[] = \"${BUILD_FLAGS}\";
}  // namespace reporters::build_info
#endif
")
set(old "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" old)
endif()
if(NOT old STREQUAL text)
  file(WRITE "${OUTPUT}" "${text}")
endif()
