# CUDA, where there is a compiler for it. GTEST_DETERMINISM_HAVE_CUDA says
# whether device code is built; a build without it leaves that out and says so.
# No program links libcuda or libtorch_cuda: those are asked for when a device
# is, so that all of them start on a machine without a driver.
set(GTEST_DETERMINISM_CUDA AUTO CACHE STRING "Build device code: AUTO (where nvcc is found), ON, OFF")
set_property(CACHE GTEST_DETERMINISM_CUDA PROPERTY STRINGS AUTO ON OFF)
set(GTEST_DETERMINISM_HAVE_CUDA FALSE)
if(GTEST_DETERMINISM_CUDA STREQUAL "OFF")
  message(STATUS "CUDA: left out, GTEST_DETERMINISM_CUDA is OFF")
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(GTEST_DETERMINISM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "GTEST_DETERMINISM_CUDA is ON and nvcc was not found: put it on PATH or set CMAKE_CUDA_COMPILER")
  endif()
  message(STATUS "CUDA: left out, nvcc was not found")
  return()
endif()
# sm_80 and sm_90, and PTX of the latter for later cards.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "Architectures of device code" FORCE)
endif()
enable_language(CUDA)
# Debian's CMake 3.25 does not know C++20 of nvcc 13.
if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
  if(GTEST_DETERMINISM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CMake ${CMAKE_VERSION} does not know C++20 of nvcc ${CMAKE_CUDA_COMPILER_VERSION}: use CMake 4")
  endif()
  message(STATUS "CUDA: left out, CMake ${CMAKE_VERSION} does not know C++20 of nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
  return()
endif()
find_package(CUDAToolkit REQUIRED)
# One CUDA runtime in a process: libtorch's is the shared one too.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
set(GTEST_DETERMINISM_HAVE_CUDA TRUE)
message(STATUS "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
