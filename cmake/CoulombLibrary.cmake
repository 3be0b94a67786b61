# libcoulomb, shared and static, from the modules of src/client and what they use of base, json and
# sql; its headers, pkg-config file and CMake package.

set(COULOMB_CLIENT_MODULES loop value collection tx kinds net stream electric server)
set(client_objects $<TARGET_OBJECTS:coulomb_client>)
foreach(module IN LISTS COULOMB_CLIENT_MODULES)
    list(APPEND client_objects $<TARGET_OBJECTS:coulomb_client_${module}>)
endforeach()

add_library(libcoulomb SHARED ${client_objects})
set_target_properties(libcoulomb PROPERTIES
    OUTPUT_NAME coulomb LINKER_LANGUAGE C EXPORT_NAME coulomb
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(libcoulomb INTERFACE
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
# Only members that something asks for come out of the archives.
target_link_libraries(libcoulomb PRIVATE
    coulomb_sql coulomb_json coulomb_base coulomb::xxhash coulomb::curl coulomb::threads m)
target_link_options(libcoulomb PRIVATE -Wl,--as-needed -Wl,--no-undefined)
if(COULOMB_SANITIZE)
    set_target_properties(libcoulomb PROPERTIES EXCLUDE_FROM_ALL ON)
endif()

# One object with all of it, whose hidden symbols are made local: nothing of ours can meet a
# symbol of the program that links it.
if(NOT COULOMB_SANITIZE)
    set(archive "${CMAKE_BINARY_DIR}/libcoulomb.a")
    set(object "${CMAKE_BINARY_DIR}/libcoulomb_all.o")
    add_custom_command(OUTPUT "${archive}"
        COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o "${object}" ${client_objects}
            $<TARGET_FILE:coulomb_sql> $<TARGET_FILE:coulomb_json> $<TARGET_FILE:coulomb_base>
        COMMAND ${CMAKE_OBJCOPY} --localize-hidden "${object}"
        COMMAND ${CMAKE_COMMAND} -E rm -f "${archive}"
        COMMAND ${CMAKE_AR} rcs "${archive}" "${object}"
        DEPENDS ${client_objects} coulomb_sql coulomb_json coulomb_base
        COMMAND_EXPAND_LISTS VERBATIM)
    add_custom_target(libcoulomb_static ALL DEPENDS "${archive}")
endif()

set(CMAKE_INSTALL_LIBDIR lib CACHE PATH "Where libraries go, below the prefix")
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
configure_file("${CMAKE_CURRENT_LIST_DIR}/coulomb.pc.in" "${CMAKE_BINARY_DIR}/coulomb.pc" @ONLY)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/coulomb-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
if(NOT COULOMB_SANITIZE)
    install(TARGETS libcoulomb EXPORT coulomb LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(FILES "${CMAKE_BINARY_DIR}/libcoulomb.a" DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(EXPORT coulomb NAMESPACE coulomb:: FILE coulomb-config.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/coulomb)
    install(FILES "${CMAKE_BINARY_DIR}/coulomb-config-version.cmake"
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/coulomb)
    install(FILES "${CMAKE_BINARY_DIR}/coulomb.pc"
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
    install(DIRECTORY include/coulomb DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
    install(FILES docs/libcoulomb.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3 OPTIONAL)
endif()
