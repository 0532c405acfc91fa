# The rooms' archives, linked again as shared libraries, for programs of others: libdinfer.so is the engine without actors,
# libdinfer_caf.so the same and the actors. Each holds all that it needs of dinfer and exports what include/dinfer marks
# with DINFER_EXPORT. The programs keep to the archives, so nothing is compiled twice.
function(dinfer_shared_library name room)
  cmake_parse_arguments(ARG "" "" "ROOMS;PUBLIC" ${ARGN})
  # The words come as objects, because a library needs a source; the other rooms as whole archives.
  add_library(${name} SHARED $<TARGET_OBJECTS:dinfer_words>)
  target_link_libraries(${name} PUBLIC tl::expected ${ARG_PUBLIC} PRIVATE $<BUILD_INTERFACE:dinfer_flags> ${room})
  list(JOIN ARG_ROOMS "," rooms)
  set_target_properties(${name} PROPERTIES VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} LINK_LIBRARY_OVERRIDE "WHOLE_ARCHIVE,${rooms}")
  target_include_directories(${name} INTERFACE $<INSTALL_INTERFACE:include>)
  target_link_options(${name} PRIVATE -Wl,-z,defs)
  # The CUDA plugin lies beside it; nothing else is looked for in a place of its own.
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
    INSTALL_RPATH "$<$<BOOL:${DINFER_WITH_CUDA}>:$ORIGIN>")
endfunction()

dinfer_shared_library(dinfer_shared dinfer_runtime ROOMS dinfer_kernels dinfer_runtime)
set_target_properties(dinfer_shared PROPERTIES OUTPUT_NAME dinfer)
dinfer_shared_library(dinfer_caf_shared dinfer_actors ROOMS dinfer_kernels dinfer_runtime dinfer_net dinfer_actors
  PUBLIC CAF::core)
set_target_properties(dinfer_caf_shared PROPERTIES OUTPUT_NAME dinfer_caf)
