# coulomb_module(<path below src/> [EXCLUDE <file>…] [DEPS <module path | coulomb::lib>…])
#
# Makes the static library coulomb_<path with _ for /> from src/<path>/*.c. A
# module without any .c file yet becomes an interface library, so that the tree
# configures while modules are still headers only.

function(coulomb_module_target out path)
    string(REPLACE "/" "_" name "coulomb_${path}")
    set(${out} ${name} PARENT_SCOPE)
endfunction()

function(coulomb_module path)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "EXCLUDE;DEPS")
    coulomb_module_target(target ${path})
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/${path}/*.c")
    foreach(file IN LISTS arg_EXCLUDE)
        list(REMOVE_ITEM sources "${CMAKE_SOURCE_DIR}/src/${path}/${file}")
    endforeach()

    if(sources)
        add_library(${target} STATIC ${sources})
        # Modules go into libcoulomb, too: position independent, and nothing but coulomb_* seen.
        set_target_properties(${target} PROPERTIES
            C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
        set(scope PUBLIC)
    else()
        add_library(${target} INTERFACE)
        set(scope INTERFACE)
    endif()

    target_link_libraries(${target} ${scope} coulomb_options)
    foreach(dep IN LISTS arg_DEPS)
        if(NOT dep MATCHES "^coulomb::")
            coulomb_module_target(dep ${dep})
        endif()
        target_link_libraries(${target} ${scope} ${dep})
    endforeach()
    set_property(GLOBAL APPEND PROPERTY COULOMB_MODULES ${path})
endfunction()
