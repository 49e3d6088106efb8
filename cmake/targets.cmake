# Every sub-folder of the tree is one target, declared with one of these functions.
#
# A folder's headers are reached as "<prefix>/<file>.h", and only by targets that link the folder: the include
# directory of a target holds one symbolic link, <prefix>, and nothing else. So an arrow that is not
# written in a CMakeLists.txt does not compile.

function(berth_include target prefix)
	set(root ${CMAKE_BINARY_DIR}/include/${target})
	file(MAKE_DIRECTORY ${root})
	file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${prefix} SYMBOLIC)
	target_include_directories(${target} PUBLIC ${root})
endfunction()

# berth_library(base_core PREFIX core SOURCES err.c ... USES <public links> PRIVATE <links of the .c files alone>)
function(berth_library target)
	cmake_parse_arguments(A "" "PREFIX" "SOURCES;USES;PRIVATE" ${ARGN})
	add_library(${target} STATIC ${A_SOURCES})
	berth_include(${target} ${A_PREFIX})
	target_link_libraries(${target} PUBLIC ${A_USES} PRIVATE berth_flags ${A_PRIVATE})
endfunction()

# berth_program(berthd SOURCES main.c USES ...): an executable; it lands in <build>/bin.
function(berth_program target)
	cmake_parse_arguments(A "" "" "SOURCES;USES" ${ARGN})
	add_executable(${target} ${A_SOURCES})
	target_link_libraries(${target} PRIVATE berth_flags ${A_USES})
	set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# berth_test(test_codec LABEL unit SOURCES test_codec.c USES base_core): a cmocka program, one ctest entry.
function(berth_test target)
	cmake_parse_arguments(A "" "LABEL;TIMEOUT" "SOURCES;USES;ARGS" ${ARGN})
	if(NOT A_TIMEOUT)
		set(A_TIMEOUT 120)
	endif()
	add_executable(${target} ${A_SOURCES})
	target_link_libraries(${target} PRIVATE berth_flags PkgConfig::CMOCKA ${A_USES})
	add_test(NAME ${A_LABEL}.${target} COMMAND ${target} ${A_ARGS})
	# A program that lacks what it needs from the machine exits with 77 and says why.
	set_tests_properties(${A_LABEL}.${target} PROPERTIES
		LABELS ${A_LABEL} TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77
		ENVIRONMENT "TSAN_OPTIONS=die_after_fork=0:suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
	# These use namespaces, cgroups and ports of the machine: never two at once.
	if(A_LABEL MATCHES "^(component|cluster|clients)$")
		set_tests_properties(${A_LABEL}.${target} PROPERTIES RESOURCE_LOCK machine)
	endif()
endfunction()

# berth_machines(test_guest [ARGS libvirt] [LONG]): real virtual machines take part in the test that berth_test made; with ARGS in a second
# test of the same program. Labelled `vm`. LONG: for `tools/check --ci` alone.
function(berth_machines target)
	cmake_parse_arguments(A "LONG" "" "ARGS" ${ARGN})
	set(name component.${target})
	if(A_ARGS)
		set(name component.${target}.machines)
		add_test(NAME ${name} COMMAND ${target} ${A_ARGS})
		set_tests_properties(${name} PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77 RESOURCE_LOCK machine)
	endif()
	set(labels component vm)
	if(A_LONG)
		list(APPEND labels long)
	endif()
	set_tests_properties(${name} PROPERTIES LABELS "${labels}")
endfunction()

# berth_fuzzer(fuzz_codec CORPUS dir SOURCES fuzz_codec.c USES base_core): with clang and BERTH_FUZZ a libFuzzer program;
# otherwise the same source runs once over its corpus, so that a corpus can never rot.
function(berth_fuzzer target)
	cmake_parse_arguments(A "" "CORPUS" "SOURCES;USES" ${ARGN})
	set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/${A_CORPUS})
	if(BERTH_FUZZ)
		add_executable(${target} ${A_SOURCES})
		target_link_options(${target} PRIVATE -fsanitize=fuzzer)
		set(run ${target} -max_total_time=${BERTH_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
			-print_final_stats=1 ${CMAKE_BINARY_DIR}/fuzz/${target} ${corpus})
		file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${target})
	else()
		add_executable(${target} ${A_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
		set(run ${target} ${corpus})
	endif()
	target_link_libraries(${target} PRIVATE berth_flags ${A_USES})
	add_test(NAME fuzz.${target} COMMAND ${run})
	set_tests_properties(fuzz.${target} PROPERTIES LABELS fuzz TIMEOUT 4000)
endfunction()
