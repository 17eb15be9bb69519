# Imported target torch_wheel::cpu from the PyPI wheel of torch.
#
# find_package(Torch) of a CUDA wheel stops where there is no CUDA toolkit, so
# the target is made here from the wheel's include and lib folders. libtorch_cpu.so
# asks for libcudart and libcupti, which lie in the wheels nvidia-cuda-runtime
# and nvidia-cuda-cupti; its own rpath finds them there.
if(NOT GTEST_DETERMINISM_TORCH_DIR)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE _torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(GTEST_DETERMINISM_TORCH_DIR "${_torch_dir}" CACHE PATH "Folder of the installed torch wheel" FORCE)
endif()
if(NOT EXISTS "${GTEST_DETERMINISM_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "libtorch not found: install the wheel torch==2.11.0 for ${Python3_EXECUTABLE}, "
    "or set GTEST_DETERMINISM_TORCH_DIR to its folder, or GTEST_DETERMINISM_BUILD_SUITES=OFF")
endif()
file(READ "${GTEST_DETERMINISM_TORCH_DIR}/version.py" _torch_version)
string(REGEX MATCH "__version__ = '([^']+)'" _ "${_torch_version}")
set(GTEST_DETERMINISM_TORCH_VERSION "${CMAKE_MATCH_1}")
message(STATUS "torch ${GTEST_DETERMINISM_TORCH_VERSION}: ${GTEST_DETERMINISM_TORCH_DIR}")

if(NOT TARGET torch_wheel::cpu)
  add_library(torch_wheel::c10 SHARED IMPORTED GLOBAL)
  set_target_properties(torch_wheel::c10 PROPERTIES
    IMPORTED_LOCATION "${GTEST_DETERMINISM_TORCH_DIR}/lib/libc10.so")
  add_library(torch_wheel::cpu SHARED IMPORTED GLOBAL)
  set_target_properties(torch_wheel::cpu PROPERTIES
    IMPORTED_LOCATION "${GTEST_DETERMINISM_TORCH_DIR}/lib/libtorch_cpu.so"
    INTERFACE_INCLUDE_DIRECTORIES
      "${GTEST_DETERMINISM_TORCH_DIR}/include;${GTEST_DETERMINISM_TORCH_DIR}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES "torch_wheel::c10;Threads::Threads"
    # libcudart and libcupti are found through libtorch_cpu.so's rpath when it is loaded.
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
endif()

# torch_wheel::c10_cuda: streams and the caching allocator. It needs libcudart
# only; libtorch_cuda.so is opened when a device is asked for (kernels/torch_cuda.h).
if(GTEST_DETERMINISM_HAVE_CUDA AND NOT TARGET torch_wheel::c10_cuda)
  add_library(torch_wheel::c10_cuda SHARED IMPORTED GLOBAL)
  set_target_properties(torch_wheel::c10_cuda PROPERTIES
    IMPORTED_LOCATION "${GTEST_DETERMINISM_TORCH_DIR}/lib/libc10_cuda.so"
    INTERFACE_LINK_LIBRARIES "torch_wheel::cpu;CUDA::cudart"
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
endif()

# torch_wheel::openmp: at::parallel_for is a loop on one thread in a file that is
# compiled without OpenMP. Linked is the libgomp that libtorch itself uses: a
# second one would have a thread pool of its own.
if(NOT TARGET torch_wheel::openmp)
  add_library(torch_wheel::openmp INTERFACE IMPORTED GLOBAL)
  file(GLOB _torch_gomp "${GTEST_DETERMINISM_TORCH_DIR}/lib/libgomp*.so*")
  if(_torch_gomp)
    list(GET _torch_gomp 0 _torch_gomp)
    target_compile_options(torch_wheel::openmp INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
    target_link_libraries(torch_wheel::openmp INTERFACE "${_torch_gomp}")
  else()
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    target_link_libraries(torch_wheel::openmp INTERFACE OpenMP::OpenMP_CXX)
  endif()
endif()
