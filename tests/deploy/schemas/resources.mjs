// node resources.mjs FILE: validates custom resources, a JSON list, each against the schema of its definition.
import { readFileSync } from "node:fs";

const KINDS = {
  ScaledJob: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledJob",
  PodMonitor: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
  PrometheusRule: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
};
let wrong = 0;
for (const resource of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const { [resource.kind]: Model } = await import(KINDS[resource.kind]);
  try {
    new Model(resource).validate();
  } catch (error) {
    wrong += 1;
    console.log(`${resource.kind} ${resource.metadata?.name}: ${error.message}`);
  }
}
process.exit(wrong ? 1 : 0);
