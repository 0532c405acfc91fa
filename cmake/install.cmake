# What `cmake --install` leaves on a machine: the programs, the words, the libraries, and find_package(dinfer).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS dinfer-node dinfer RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
if(DINFER_WITH_CUDA)
  install(TARGETS dinfer_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT programs)
endif()
foreach(program dinfer dinfer-node)  # made in apps/
  set(said ${PROJECT_BINARY_DIR}/share/${program})
  install(FILES ${said}.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME ${program} COMPONENT programs)
  install(FILES ${said}.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _${program} COMPONENT programs)
  install(FILES ${said}.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT programs)
  install(FILES ${said}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT programs)
endforeach()
install(DIRECTORY include/dinfer DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(DIRECTORY conf/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/conf COMPONENT programs)

# Four sets of targets, of which a project loads those it asks for.
set(room ${CMAKE_INSTALL_LIBDIR}/cmake/dinfer)
function(dinfer_install_targets set)
  install(TARGETS ${ARGN} EXPORT ${set} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT ${set} NAMESPACE dinfer:: DESTINATION ${room})
endfunction()
dinfer_install_targets(dinfer-targets dinfer_words dinfer_kernels dinfer_runtime)
dinfer_install_targets(dinfer-caf-targets dinfer_net dinfer_actors)
dinfer_install_targets(dinfer-shared-targets dinfer_shared)
dinfer_install_targets(dinfer-caf-shared-targets dinfer_caf_shared)
configure_package_config_file(cmake/dinferConfig.cmake.in ${PROJECT_BINARY_DIR}/dinferConfig.cmake INSTALL_DESTINATION ${room})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dinferConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dinferConfig.cmake ${PROJECT_BINARY_DIR}/dinferConfigVersion.cmake
  cmake/FindCAF.cmake cmake/FindPCRE2.cmake cmake/Findutf8proc.cmake DESTINATION ${room})
