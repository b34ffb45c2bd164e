#!/usr/bin/env bash
# Sets up, builds and runs every test: C++, web unit, command line, browser. Ends with one line of counts.
#   usage: deploy/test.sh
set -uo pipefail
cd "$(dirname "$0")/.."

deploy/setup.sh || exit 1
deploy/build.sh --tests || exit 1
. deploy/env.sh

passed=0 failed=0 skipped=0
count() { # count NAME PASSED FAILED SKIPPED
  printf '%-28s %5d passed %4d failed %4d skipped\n' "$1" "$2" "$3" "$4" | tee -a "$results/summary"
  passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
}
# The last "N passed, N failed[, N skipped]" of a file; a suite that ends without one has failed.
count_line() { # count_line NAME FILE
  local line
  line=$(grep -Eo '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' "$2" | tail -n 1)
  if [ -z "$line" ]; then count "$1" 0 1 0; tail -n 40 "$2"; return; fi
  # shellcheck disable=SC2046
  set -- "$1" "$2" $(echo "$line" | grep -Eo '[0-9]+')
  count "$1" "$3" "$4" "${5:-0}"
  [ "$4" = 0 ] || tail -n 60 "$2"
}

results=$PWD/build/test-results
rm -rf "$results" build/dev/test-results
mkdir -p "$results" build/dev/test-results

echo "==> C++ tests"
ctest --test-dir build/dev --output-on-failure --timeout 600 >"$results/ctest.log" 2>&1
ctest_rc=$?
grep -E '^ *[0-9]+/[0-9]+ Test' "$results/ctest.log"
[ $ctest_rc = 0 ] || grep -E 'Failure|FAILED|SUMMARY|Error|error:' -A 6 "$results/ctest.log" | head -n 200
python3 deploy/count_tests.py build/dev/test-results "$results/ctest.log" >"$results/cpp.txt"
count_line "C++" "$results/cpp.txt"
grep -h 'skipped:' "$results/cpp.txt" || true

echo "==> web unit tests"
(cd web && npm test --silent) >"$results/web.log" 2>&1
web_rc=$?
sed 's/\x1b\[[0-9;]*m//g' "$results/web.log" >"$results/web.txt"
web_passed=$(grep -E '^ *Tests ' "$results/web.txt" | grep -Eo '[0-9]+ passed' | grep -Eo '[0-9]+')
web_failed=$(grep -E '^ *Tests ' "$results/web.txt" | grep -Eo '[0-9]+ failed' | grep -Eo '[0-9]+')
[ $web_rc = 0 ] || { web_failed=${web_failed:-1}; tail -n 60 "$results/web.txt"; }
count "web unit" "${web_passed:-0}" "${web_failed:-0}" 0

echo "==> command line against a real server"
python3 tests/e2e/cli_test.py --bin build/dev >"$results/cli.log" 2>&1
count_line "command line" "$results/cli.log"
python3 tests/e2e/bring_test.py --bin build/dev >"$results/bring.log" 2>&1
count_line "what users bring" "$results/bring.log"
python3 tests/e2e/training_test.py --bin build/dev >"$results/training.log" 2>&1
count_line "training" "$results/training.log"

echo "==> demo and browser"
demo_dir=$(mktemp -d)
demo=(deploy/demo.sh --data-dir "$demo_dir")
if "${demo[@]}" --no-wait --port 50951 --http-port 50981 >"$results/demo.log" 2>&1; then
  count "demo" 1 0 0
  node tests/e2e/run.mjs --url http://127.0.0.1:50981 --screenshots "$results/screenshots" >"$results/browser.log" 2>&1
  count_line "browser" "$results/browser.log"
else
  count "demo" 0 1 0
  tail -n 40 "$results/demo.log"
fi
"${demo[@]}" --stop
rm -rf "$demo_dir"

echo
cat "$results/summary"
if [ $failed -gt 0 ]; then rc=1; else rc=0; fi
[ $ctest_rc = 0 ] || rc=1
echo "$passed passed, $failed failed, $skipped skipped"
exit $rc
