# Compiles, links and runs a consumer with what pkg-config says.
find_package(PkgConfig REQUIRED)
file(GLOB_RECURSE pc ${PREFIX}/*/gtest_determinism.pc)
cmake_path(GET pc PARENT_PATH pc_dir)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --define-variable=prefix=${PREFIX} --cflags --libs gtest_determinism
  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${FLAGS} ${flags}")
execute_process(COMMAND ${COMPILER} -o ${OUTPUT} ${SOURCE} ${MAIN} ${flags} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${OUTPUT} COMMAND_ERROR_IS_FATAL ANY)
