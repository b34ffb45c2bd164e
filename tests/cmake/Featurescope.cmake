# Build rules shared by every folder: compiler settings, library and test helpers, the precompiled torch header.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # A precompiled header is hashed by its content; the rest of its identity is time stamps.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(GTest REQUIRED)
find_package(nlohmann_json REQUIRED)

add_library(fs_options INTERFACE)
target_include_directories(fs_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(fs_options INTERFACE
  -pthread # some libraries ask for it, and a precompiled header must be made as it is used
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Wno-error=unused-command-line-argument>
  # GCC 12 reports these inside std::optional, strings, absl and torch headers that it has inlined;
  # and -Wshadow, which Clang checks, where a macro's argument has a lambda with the same macro in it.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-dangling-pointer -Wno-stringop-overflow
    -Wno-stringop-overread -Wno-array-bounds -Wno-restrict -Wno-shadow>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Template instances in a precompiled header are compiled once: a third off a torch file.
  set(CMAKE_PCH_INSTANTIATE_TEMPLATES ON)
endif()
if(FEATURESCOPE_SANITIZE)
  add_compile_options(-fsanitize=${FEATURESCOPE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FEATURESCOPE_SANITIZE})
endif()
if(FEATURESCOPE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(FEATURESCOPE_TORCH)
  find_package(Torch REQUIRED)
  # Only the libraries: the package's own flags would override our standard and warnings.
  add_library(fs_torch INTERFACE)
  target_include_directories(fs_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(fs_torch INTERFACE ${TORCH_LIBRARIES})
  if(TORCH_CXX_FLAGS)
    separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
    target_compile_options(fs_torch INTERFACE ${torch_flags})
  endif()

  add_library(fs_torch_pch OBJECT ${CMAKE_SOURCE_DIR}/server/tensor/torch_pch.cc)
  target_link_libraries(fs_torch_pch PUBLIC fs_options fs_torch)
  target_precompile_headers(fs_torch_pch PRIVATE ${CMAKE_SOURCE_DIR}/server/tensor/torch.h)
endif()

# Links LibTorch and reuses the precompiled header, which only fits code compiled as it was.
function(fs_use_torch name)
  get_target_property(type ${name} TYPE)
  if(type STREQUAL "EXECUTABLE")
    target_link_libraries(${name} PRIVATE fs_torch)
  else()
    target_link_libraries(${name} PUBLIC fs_torch)
  endif()
  target_compile_options(${name} PRIVATE -fPIC)
  target_precompile_headers(${name} REUSE_FROM fs_torch_pch)
endfunction()

# featurescope_library(NAME SOURCES ... DEPS ... [TORCH])
#   One static library per folder; TORCH links LibTorch and reuses the precompiled header.
function(featurescope_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC fs_options ${ARG_DEPS})
  if(ARG_TORCH)
    fs_use_torch(${name})
  endif()
endfunction()

# featurescope_test(NAME SOURCES ... DEPS ... [TORCH])
#   One gtest binary per folder. Its case counts go to <build>/test-results/NAME.json.
function(featurescope_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE fs_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    FEATURESCOPE_SOURCE_DIR="${CMAKE_SOURCE_DIR}" FEATURESCOPE_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(ARG_TORCH)
    fs_use_torch(${name})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name}
    --gtest_output=json:${CMAKE_BINARY_DIR}/test-results/${name}.json)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  if(FEATURESCOPE_SANITIZE)
    # Tests of exhausted memory expect the allocation to fail, not the program to end.
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "ASAN_OPTIONS=allocator_may_return_null=1;TSAN_OPTIONS=allocator_may_return_null=1")
  endif()
endfunction()

# featurescope_bench(NAME SOURCES ... DEPS ... [TORCH])
#   A program with a main of its own, on Google Benchmark where that fits.
function(featurescope_bench name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE fs_options ${ARG_DEPS} benchmark::benchmark)
  target_compile_definitions(${name} PRIVATE FEATURESCOPE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(ARG_TORCH)
    fs_use_torch(${name})
  endif()
endfunction()
