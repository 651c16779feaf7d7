#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Takes the reports of ci/indexed-job.yaml out of its pods' logs, merges them and gives the verdict:
#
#   kubectl apply -f ci/indexed-job.yaml
#   ci/indexed-job-collect.sh [FOLDER]
#
# Exit codes: 0 conformant, 1 not conformant, 3 infrastructure; so is a shard whose report is not there.
set -euo pipefail
job=${JOB:-outrigger}
folder=${1:-_artifacts}
mkdir -p "$folder/shards"
rm -f "$folder"/shards/*.log "$folder"/shards/*.log.without-report "$folder/report.json"

# A Job that failed is over, too; its verdict is in the reports.
kubectl wait "job/$job" --for=condition=Complete --timeout="${TIMEOUT:-30m}" >/dev/null &
complete=$!
kubectl wait "job/$job" --for=condition=Failed --timeout="${TIMEOUT:-30m}" >/dev/null 2>&1 &
failed=$!
wait -n "$complete" "$failed" || { echo "collect: job/$job did not end within ${TIMEOUT:-30m}" >&2; exit 3; }
kill "$complete" "$failed" 2>/dev/null || true

shards=$(kubectl get "job/$job" -o 'jsonpath={.spec.completions}')
for ((i = 0; i < shards; i++)); do
  # Of an index that was tried twice the last pod counts.
  pod=$(kubectl get pods -l "batch.kubernetes.io/job-name=$job,batch.kubernetes.io/job-completion-index=$i" \
    --sort-by=.metadata.creationTimestamp -o name | tail -n 1)
  if [ -z "$pod" ]; then
    echo "collect: no pod is left of index $i" >&2
    continue
  fi
  kubectl logs "$pod" >"$folder/shards/$i.log"
  if ! grep -q '^-----END OUTRIGGER REPORT-----' "$folder/shards/$i.log"; then
    echo "collect: there is no report in the log of $pod (index $i), which ends with: $(tail -n 1 "$folder/shards/$i.log")" >&2
    mv "$folder/shards/$i.log" "$folder/shards/$i.log.without-report"
  fi
done

# A shard that is not there makes the merged report incomplete.
if ! ls "$folder"/shards/*.log >/dev/null 2>&1; then
  echo "collect: no shard of job/$job left a report" >&2
  exit 3
fi
outrigger merge --artifacts "$folder" "$folder"/shards/*.log
outrigger verdict "$folder/report.json"
