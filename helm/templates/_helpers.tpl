{{- define "gankiln.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* 50 characters leave room for -exporter and for what Jobs and ReplicaSets put behind a name. */ -}}
{{- define "gankiln.fullname" -}}
{{- $name := include "gankiln.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "gankiln.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "gankiln.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "gankiln.selector" -}}
app.kubernetes.io/name: {{ include "gankiln.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gankiln.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "gankiln.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gankiln.kueueLabels" -}}
{{- with .Values.kueue.queueName }}
kueue.x-k8s.io/queue-name: {{ . }}
{{- end }}
{{- with .Values.kueue.priorityClass }}
kueue.x-k8s.io/priority-class: {{ . }}
{{- end }}
{{- end }}

{{- define "gankiln.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- $name := ternary (printf "%s/%s" $registry .Values.image.repository) .Values.image.repository (ne $registry "") }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* What every pod has: user, account, where it may not go. */ -}}
{{- define "gankiln.podBasics" -}}
serviceAccountName: {{ include "gankiln.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end }}

{{- define "gankiln.containerBasics" -}}
image: {{ include "gankiln.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{- /* Where the store is. Secrets come by reference and never stand in a manifest. */ -}}
{{- define "gankiln.storeEnv" -}}
- name: GANKILN_STORE
  value: {{ .Values.store.url | quote }}
{{- with .Values.store.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.store.caBundle.configMap .Values.store.caBundle.secret }}
- name: AWS_CA_BUNDLE
  value: /etc/gankiln/ca/{{ .Values.store.caBundle.key }}
{{- end }}
{{- end }}

{{- define "gankiln.envFrom" -}}
{{- with .root.Values.store.existingSecret }}
- secretRef: {name: {{ . | quote }}}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gankiln.storeVolumes" -}}
- name: tmp
  emptyDir: {}
{{- with .Values.store.volume }}
- name: store {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.store.caBundle.configMap }}
- name: ca
  configMap: {name: {{ .Values.store.caBundle.configMap | quote }}}
{{- else if .Values.store.caBundle.secret }}
- name: ca
  secret: {secretName: {{ .Values.store.caBundle.secret | quote }}}
{{- end }}
{{- end }}

{{- define "gankiln.storeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.store.volume }}
- {name: store, mountPath: /work}
{{- end }}
{{- if or .Values.store.caBundle.configMap .Values.store.caBundle.secret }}
- {name: ca, mountPath: /etc/gankiln/ca, readOnly: true}
{{- end }}
{{- end }}
