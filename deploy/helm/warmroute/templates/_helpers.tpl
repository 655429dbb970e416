{{- define "warmroute.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "warmroute.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "warmroute.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "warmroute.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "warmroute.selectorLabels" -}}
app.kubernetes.io/name: {{ include "warmroute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "warmroute.labels" -}}
{{ include "warmroute.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "warmroute.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "warmroute.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "warmroute.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- /* How many routers there are at least. */}}
{{- define "warmroute.replicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{- define "warmroute.several" -}}
{{- if or (gt (int (include "warmroute.replicas" .)) 1) (and .Values.autoscaling.enabled (gt (int .Values.autoscaling.maxReplicas) 1)) }}true{{ end }}
{{- end }}

{{- /* Whether the router asks the cluster's API, and so needs a token and a role. */}}
{{- define "warmroute.asksApi" -}}
{{- if has .Values.discovery.kind (list "service" "pods") }}true{{ end }}
{{- end }}

{{- /* The router's configuration file. */}}
{{- define "warmroute.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $elsewhere := dict "host" "nothing: a pod listens on every address" "port" "port" "backend" "backends" "api_key" "apiKeys.existingSecret" "admin_api_key" "adminApiKeys.existingSecret" "shutdown_grace_s" "shutdownGraceSeconds" }}
{{- range $name, $value := $elsewhere }}
{{- if hasKey $config $name }}{{ fail (printf "config.%s: use %s" $name $value) }}{{ end }}
{{- end }}
{{- $_ := set $config "policy" .Values.policy }}
{{- with .Values.policyParam }}{{ $_ := set $config "policy_param" . }}{{ end }}
{{- if not (hasKey $config "replicas") }}{{ $_ := set $config "replicas" (int (include "warmroute.replicas" .)) }}{{ end }}
{{- $_ := set $config "shutdown_grace_s" .Values.shutdownGraceSeconds }}
{{- $kind := .Values.discovery.kind }}
{{- if and .Values.backends (not (has $kind (list "none" "file"))) }}
{{- fail (printf "backends: discovery.kind %s finds the workers; give either" $kind) }}
{{- end }}
{{- if eq $kind "none" }}
{{- with .Values.backends }}{{ $_ := set $config "backend" . }}{{ end }}
{{- else if eq $kind "file" }}
{{- $_ := set $config "discover_file" "/etc/warmroute/backends/backends.yaml" }}
{{- else if eq $kind "service" }}
{{- $_ := set $config "discover_kubernetes_service" (required "discovery.service: the name of the workers' Service" .Values.discovery.service) }}
{{- else if eq $kind "pods" }}
{{- $words := list }}
{{- range $label, $value := required "discovery.selector: the labels of the workers' pods" .Values.discovery.selector }}
{{- $words = append $words (printf "%s=%s" $label $value) }}
{{- end }}
{{- $_ := set $config "discover_kubernetes_selector" $words }}
{{- else if eq $kind "dns" }}
{{- $_ := set $config "discover_dns" (required "discovery.dns: names whose addresses are workers" .Values.discovery.dns) }}
{{- end }}
{{- if include "warmroute.asksApi" . }}
{{- $_ := set $config "discover_kubernetes_namespace" (.Values.discovery.namespace | default .Release.Namespace) }}
{{- with .Values.discovery.port }}{{ $_ := set $config "discover_kubernetes_port" (toString .) }}{{ end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* HTTPS where the router has a certificate, else HTTP. */}}
{{- define "warmroute.scheme" -}}
{{- if .Values.config.tls_cert }}HTTPS{{ else }}HTTP{{ end -}}
{{- end }}

{{/* How the kubelet asks for a path. It has no certificate to show and no head of the PROXY protocol, so where those
are needed it only connects. */}}
{{- define "warmroute.probe" -}}
{{- if or .root.Values.config.tls_client_ca .root.Values.config.proxy_protocol -}}
tcpSocket: {port: http}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ include "warmroute.scheme" .root }}}
{{- end -}}
{{- end }}
