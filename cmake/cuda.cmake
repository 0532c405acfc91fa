# Finds a CUDA toolkit for the plugin of kernels/cuda: nvcc on the PATH, CUDA's usual place, or what scripts/setup --cuda
# installed. Sets DINFER_WITH_CUDA. A caller may choose another by CUDACXX or CMAKE_CUDA_COMPILER.
set(DINFER_CUDA AUTO CACHE STRING "Build the CUDA plugin: ON, OFF, or AUTO, where a toolkit is found")
set(DINFER_CUDA_ARCHITECTURES "80-real;89-real;90a-real;100-real" CACHE STRING "GPUs that the plugin has code for")
set(DINFER_WITH_CUDA OFF)
if(NOT DINFER_CUDA)
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  file(GLOB pip_toolkits ${PROJECT_SOURCE_DIR}/build/cuda-toolkit/lib/python3*/site-packages/nvidia/cu13/bin)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda/bin ${pip_toolkits} PATH_SUFFIXES bin)
endif()
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  if(NOT DINFER_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "DINFER_CUDA: no nvcc; scripts/setup --cuda installs one, or set CMAKE_CUDA_COMPILER")
  endif()
  message(STATUS "No CUDA toolkit: the plugin for GPUs is left out (scripts/setup --cuda installs one)")
  return()
endif()

set(CMAKE_CUDA_ARCHITECTURES ${DINFER_CUDA_ARCHITECTURES})
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 has not heard of it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
if(NOT TARGET CUDA::nvToolsExt)  # CMake 3.25 needs it, CUDA 13 has it no more
  add_library(CUDA::nvToolsExt INTERFACE IMPORTED GLOBAL)
endif()
find_package(CUDAToolkit 13.0 REQUIRED)
# PyPI's packages hold versioned names alone.
find_library(DINFER_CUBLASLT NAMES cublasLt libcublasLt.so.13 HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib REQUIRED)
# Its header alone: the library is opened when a model is put on several GPUs.
file(GLOB pip_nccl ${PROJECT_SOURCE_DIR}/build/cuda-toolkit/lib/python3*/site-packages/nvidia/nccl/include)
find_path(DINFER_NCCL_HEADERS nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${pip_nccl})
if(NOT DINFER_NCCL_HEADERS)
  message(FATAL_ERROR "nccl.h was not found: install libnccl-dev, run scripts/setup --cuda, or set DINFER_NCCL_HEADERS")
endif()
set(DINFER_WITH_CUDA ON)
