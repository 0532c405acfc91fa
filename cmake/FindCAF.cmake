# Debian ships CAF without a CMake package. Makes CAF::core and CAF::io.
find_path(CAF_INCLUDE_DIR caf/config.hpp)
set(CAF_LIBRARIES_FOUND TRUE)
foreach(part core io)
  find_library(CAF_${part}_LIBRARY caf_${part})
  if(CAF_${part}_LIBRARY AND NOT TARGET CAF::${part})
    add_library(CAF::${part} UNKNOWN IMPORTED)
    set_target_properties(CAF::${part} PROPERTIES IMPORTED_LOCATION ${CAF_${part}_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES "${CAF_INCLUDE_DIR}" INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${CAF_INCLUDE_DIR}")
  endif()
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CAF REQUIRED_VARS CAF_core_LIBRARY CAF_io_LIBRARY CAF_INCLUDE_DIR)
