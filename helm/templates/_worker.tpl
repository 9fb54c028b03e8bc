{{- /*
The pod of a worker, the same under a Deployment, a ScaledJob and a JobSet.
root: the chart's values; arguments: of gankiln; restartPolicy.
*/ -}}
{{- define "gankiln.workerPod" -}}
{{- $ := .root }}
{{- $worker := $.Values.worker }}
metadata:
  labels:
    {{- include "gankiln.selector" $ | nindent 4 }}
    app.kubernetes.io/component: worker
    {{- with $worker.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $worker.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "gankiln.podBasics" $ | nindent 2 }}
  restartPolicy: {{ .restartPolicy }}
  terminationGracePeriodSeconds: {{ $worker.terminationGracePeriodSeconds }}
  {{- range $key := list "runtimeClassName" "priorityClassName" }}
  {{- with get $worker $key }}
  {{ $key }}: {{ . | quote }}
  {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "initContainers" }}
  {{- with get $worker $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  containers:
    - name: worker
      {{- include "gankiln.containerBasics" $ | nindent 6 }}
      args: {{- toYaml .arguments | nindent 8 }}
      ports:
        - {name: metrics, containerPort: 9464}
      env:
        {{- include "gankiln.storeEnv" $ | nindent 8 }}
        - name: GANKILN_WORKER
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: GANKILN_NODE
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        {{- $drain := dict "drain_seconds" (max 5 (sub $worker.terminationGracePeriodSeconds 20)) }}
        {{- range $name, $value := merge (deepCopy $worker.settings) $drain }}
        - name: GANKILN_{{ upper $name }}
          value: {{ include "gankiln.text" $value | quote }}
        {{- end }}
        {{- with $worker.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with include "gankiln.envFrom" (dict "root" $ "extra" $worker.extraEnvFrom) | trim }}
      envFrom: {{- . | nindent 8 }}
      {{- end }}
      resources: {{- include "gankiln.workerResources" $ | nindent 8 }}
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 10
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 30
        timeoutSeconds: 10
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 15
        timeoutSeconds: 10
      {{- with $worker.lifecycle }}
      lifecycle: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "gankiln.storeMounts" $ | nindent 8 }}
        - {name: cache, mountPath: /cache}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- with $worker.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
    {{- with $worker.extraContainers }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes:
    {{- include "gankiln.storeVolumes" $ | nindent 4 }}
    - name: cache {{- toYaml $worker.cacheVolume | nindent 6 }}
    - name: shared-memory
      emptyDir: {medium: Memory, sizeLimit: {{ $worker.sharedMemory | quote }}}
    {{- with $worker.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{- /* Whole numbers stay whole: Helm reads 200000000 as 2e+08. */ -}}
{{- define "gankiln.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "gankiln.workerResources" -}}
{{- $resources := deepCopy .Values.worker.resources }}
{{- if .Values.worker.gpu.count }}
{{- $gpu := dict .Values.worker.gpu.resourceName .Values.worker.gpu.count }}
{{- $resources = mergeOverwrite $resources (dict "limits" $gpu "requests" $gpu) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- /* A node that goes away is nobody's failure. */ -}}
{{- define "gankiln.podFailurePolicy" -}}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
{{- end }}
