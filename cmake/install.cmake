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

set(room ${CMAKE_INSTALL_LIBDIR}/cmake/dinfer)
install(TARGETS dinfer_words dinfer_kernels dinfer_runtime EXPORT dinfer-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT dinfer-targets NAMESPACE dinfer:: DESTINATION ${room})
install(TARGETS dinfer_net dinfer_actors EXPORT dinfer-caf-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT dinfer-caf-targets NAMESPACE dinfer:: DESTINATION ${room})
configure_package_config_file(cmake/dinferConfig.cmake.in ${PROJECT_BINARY_DIR}/dinferConfig.cmake INSTALL_DESTINATION ${room})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dinferConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dinferConfig.cmake ${PROJECT_BINARY_DIR}/dinferConfigVersion.cmake
  cmake/FindCAF.cmake cmake/FindPCRE2.cmake cmake/Findutf8proc.cmake DESTINATION ${room})
