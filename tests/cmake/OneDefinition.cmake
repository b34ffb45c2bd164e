# Fails where two headers of the server define a class of the same name: everything is in one
# namespace, so the linker would keep one destructor for both.
#   cmake -DSOURCE_DIR=... -P OneDefinition.cmake
cmake_minimum_required(VERSION 3.25)

file(GLOB_RECURSE headers RELATIVE ${SOURCE_DIR} ${SOURCE_DIR}/server/*.h)
set(doubles "")
set(count 0)
foreach(header ${headers})
  file(STRINGS ${SOURCE_DIR}/${header} lines REGEX "^(class|struct|enum class) .*{")
  foreach(line ${lines})
    if(NOT line MATCHES "^(class|struct|enum class) (ABSL_[A-Z_]+ |alignas[^ ]* )?([A-Za-z0-9]+)( final)?( :[^:].*)? {")
      continue()  # a member's definition, a specialisation
    endif()
    set(name ${CMAKE_MATCH_3})
    math(EXPR count "${count} + 1")
    if(DEFINED where_${name} AND NOT where_${name} STREQUAL header)
      string(APPEND doubles "  ${name}: ${where_${name}} and ${header}\n")
    endif()
    set(where_${name} ${header})
  endforeach()
endforeach()

if(count EQUAL 0)
  message(FATAL_ERROR "no classes under ${SOURCE_DIR}/server")
endif()
if(doubles)
  message(FATAL_ERROR "Classes of the same name:\n${doubles}")
endif()
message(STATUS "${count} classes, each of its own name")
