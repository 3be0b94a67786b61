# Unit tests and fuzz targets, found by their place in the tree.

# Shared C helpers of the tests: tests/support/*.c, headers included from tests/.
function(coulomb_test_support)
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/support/*.c")
    if(sources)
        add_library(coulomb_test_support STATIC ${sources})
        set(scope PUBLIC)
    else()
        add_library(coulomb_test_support INTERFACE)
        set(scope INTERFACE)
    endif()
    target_include_directories(coulomb_test_support ${scope} "${CMAKE_SOURCE_DIR}/tests")
    target_link_libraries(coulomb_test_support ${scope}
        coulomb_options coulomb_json coulomb_base coulomb::cmocka coulomb::libpq)
endfunction()

# tests/support/preload/<name>.c: build/<preset>/tests/lib<name>.so, to be preloaded into
# a server that is tested from outside. Linked with nothing of ours. A sanitizer's runtime
# has to be the first library of its process, so there are none in those builds.
function(coulomb_preload_libraries)
    if(COULOMB_SANITIZE)
        return()
    endif()
    file(GLOB files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/support/preload/*.c")
    foreach(file IN LISTS files)
        get_filename_component(name "${file}" NAME_WE)
        add_library(${name} SHARED "${file}")
        target_link_libraries(${name} PRIVATE coulomb_options)
        set_target_properties(${name} PROPERTIES
            LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    endforeach()
endfunction()

# tests/support/programs/<name>.c: build/<preset>/tests/<name>, a program on the client's internals
# that tests from outside drive.
function(coulomb_test_programs)
    file(GLOB files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/support/programs/*.c")
    foreach(file IN LISTS files ITEMS "${CMAKE_SOURCE_DIR}/examples/chat.c")
        get_filename_component(name "${file}" NAME_WE)
        add_executable(${name} "${file}")
        target_link_libraries(${name} PRIVATE coulomb_options coulomb_client)
        set_target_properties(${name} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    endforeach()
endfunction()

# tests/unit/<module path>/test_*.c: one cmocka executable each, named after the
# file, linked with that module and what it depends on. Files that share state
# machinery across modules live under tests/unit/server or tests/unit/cli.
function(coulomb_unit_tests)
    coulomb_test_support()
    get_property(modules GLOBAL PROPERTY COULOMB_MODULES)
    foreach(path IN LISTS modules)
        coulomb_module_target(module ${path})
        file(GLOB tests CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/unit/${path}/test_*.c")
        foreach(file IN LISTS tests)
            get_filename_component(name "${file}" NAME_WE)
            add_executable(${name} "${file}")
            set_target_properties(${name} PROPERTIES
                RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
            target_link_libraries(${name} PRIVATE coulomb_test_support ${module})
            if(path MATCHES "^client/") # they open a whole client
                target_link_libraries(${name} PRIVATE coulomb_client)
            endif()
            add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
            set_tests_properties(${name} PROPERTIES
                LABELS "unit;${path}" TIMEOUT 300)
        endforeach()
    endforeach()
endfunction()

# What an embedder of libcoulomb gets: tests/api/library.sh. Sanitizer builds have no library.
function(coulomb_api_tests)
    if(NOT COULOMB_SANITIZE)
        add_test(NAME library
            COMMAND "${CMAKE_SOURCE_DIR}/tests/api/library.sh" "${CMAKE_BINARY_DIR}" "${CMAKE_C_COMPILER}")
        set_tests_properties(library PROPERTIES LABELS "api" TIMEOUT 300)
    endif()
endfunction()

# tests/fuzz/fuzz_<name>.c defines LLVMFuzzerTestOneInput. With COULOMB_FUZZ it is
# linked with libFuzzer; always it is linked with a small main that replays
# tests/fuzz/corpus/<name>/ as an ordinary test. A first line
# "/* fuzz: <module path>… */" names the modules to link.
function(coulomb_fuzz_targets)
    file(GLOB files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c")
    foreach(file IN LISTS files)
        get_filename_component(name "${file}" NAME_WE)
        string(REGEX REPLACE "^fuzz_" "" corpus "${name}")
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
        file(STRINGS "${file}" head LIMIT_COUNT 1 REGEX "^/\\* fuzz: .* \\*/$")
        if(NOT head)
            message(FATAL_ERROR "${file}: the first line must be /* fuzz: <module path>... */")
        endif()
        string(REGEX REPLACE "^/\\* fuzz: (.*) \\*/$" "\\1" paths "${head}")
        separate_arguments(paths UNIX_COMMAND "${paths}")
        set(libraries coulomb_options)
        foreach(path IN LISTS paths)
            coulomb_module_target(module ${path})
            list(APPEND libraries ${module})
        endforeach()

        set(replay replay_${corpus})
        add_executable(${replay} "${file}" "${CMAKE_SOURCE_DIR}/tests/fuzz/standalone_main.c")
        target_link_libraries(${replay} PRIVATE ${libraries})
        set_target_properties(${replay} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
        add_test(NAME ${replay}
            COMMAND ${replay} "${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${corpus}")
        set_tests_properties(${replay} PROPERTIES LABELS "fuzz" TIMEOUT 300)

        if(COULOMB_FUZZ)
            add_executable(${name} "${file}")
            target_link_libraries(${name} PRIVATE ${libraries})
            target_link_options(${name} PRIVATE -fsanitize=fuzzer)
        endif()
    endforeach()
endfunction()
