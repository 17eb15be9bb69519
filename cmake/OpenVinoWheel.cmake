# The OpenVINO runtime from the PyPI wheel, as its own CMake config gives it.
# GTEST_DETERMINISM_HAVE_OPENVINO says whether it is there; a build without it
# leaves the openvino engine out and says so.
if(NOT OpenVINO_DIR)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('openvino'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE _openvino_dir OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(_openvino_dir)
    set(OpenVINO_DIR "${_openvino_dir}/cmake" CACHE PATH "Folder of OpenVINOConfig.cmake" FORCE)
  endif()
endif()
find_package(OpenVINO QUIET COMPONENTS Runtime)
set(GTEST_DETERMINISM_HAVE_OPENVINO ${OpenVINO_FOUND})
if(NOT OpenVINO_FOUND)
  message(STATUS "OpenVINO not found: the variant openvino will report that it was not built in")
endif()
