{{- define "headwater.name" -}}
{{- if contains "headwater" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-headwater" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* By which the objects of a part are selected. Takes root and part. */}}
{{- define "headwater.selector" -}}
app.kubernetes.io/name: headwater
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/part-of: headwater
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* name and labels of an object of a part; "-" and the part come behind the release's name. */}}
{{- define "headwater.metadata" -}}
name: {{ include "headwater.name" .root }}-{{ .part }}
labels:
  {{- include "headwater.labels" . | nindent 2 }}
{{- end }}

{{/* Workers that answer HTTP, by a service with an address. */}}
{{- define "headwater.doors" -}}
{{ ternary (list "gateway" "page") (list "gateway") (gt (int .Values.workers.page.replicas) 0) | toJson }}
{{- end }}

{{- define "headwater.prefix" -}}
{{- .Values.settings.kafka.prefix | default "" }}
{{- end }}

{{/* The name of an object for a name of Kafka's, which may have capitals and underscores. */}}
{{- define "headwater.object" -}}
{{- . | lower | replace "_" "-" }}
{{- end }}

{{/*
The secret files of a part, as a list under `files`: setting, secret, key. The one place that knows what a login takes,
as headwater/security/logins.py does.
*/}}
{{- define "headwater.files" -}}
{{- $kafka := .root.Values.settings.kafka }}
{{- $files := list }}
{{- $user := index .root.Values.kafka.users .part | default dict }}
{{- if and (hasPrefix "SASL" ($kafka.security_protocol | default "PLAINTEXT")) (ne $kafka.sasl_mechanism "AWS_MSK_IAM") }}
{{- $field := ternary "sasl_client_secret_file" "sasl_password_file" (eq $kafka.sasl_mechanism "OAUTHBEARER") }}
{{- $secret := required (printf "kafka.users.%s.secret: the secret that has its password" .part) $user.secret }}
{{- $files = append $files (dict "setting" (printf "kafka.%s" $field) "secret" $secret "key" $user.key) }}
{{- end }}
{{- if and .root.Values.kafka.caSecret.name (hasSuffix "SSL" ($kafka.security_protocol | default "PLAINTEXT")) }}
{{- $files = append $files (dict "setting" "kafka.ssl_cafile" "secret" .root.Values.kafka.caSecret.name "key" .root.Values.kafka.caSecret.key) }}
{{- end }}
{{- $stored := index .root.Values.redis.users .part | default dict }}
{{- if $stored.secret }}
{{- $files = append $files (dict "setting" "redis.password_file" "secret" $stored.secret "key" $stored.key) }}
{{- end }}
{{- if and .root.Values.redis.caSecret.name (hasKey .root.Values.redis.users .part) }}
{{- $files = append $files (dict "setting" "redis.ssl_cafile" "secret" .root.Values.redis.caSecret.name "key" .root.Values.redis.caSecret.key) }}
{{- end }}
{{- range $setting, $at := index .root.Values.secretFiles .part | default dict }}
{{- $files = append $files (dict "setting" $setting "secret" $at.secret "key" $at.key) }}
{{- end }}
{{- dict "files" $files | toJson }}
{{- end }}

{{- define "headwater.variable" -}}
HEADWATER_{{ . | upper | replace "." "__" }}
{{- end }}

{{/* The value of a variable: a number as it was written, which Helm alone would say as 1e+06. */}}
{{- define "headwater.value" -}}
{{ (kindIs "string" . | ternary . (toJson .)) | quote }}
{{- end }}

{{/* The port of a URL: the one that it names, or its scheme's. */}}
{{- define "headwater.port" -}}
{{ regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default (hasPrefix "http://" . | ternary "80" "443") }}
{{- end }}

{{/* The name of the volume of a setting's secret; it is a folder, so that what a rotation writes is seen. */}}
{{- define "headwater.volume" -}}
{{ . | lower | replace "." "-" | replace "_" "-" }}
{{- end }}

{{- define "headwater.gateway" -}}
{{ int (dig "gateway" "port" 8080 .Values.settings) }}
{{- end }}

{{/* 0: gRPC has no port. */}}
{{- define "headwater.grpc" -}}
{{ int (dig "gateway" "grpc_port" 0 .Values.settings) }}
{{- end }}

{{/* The environment of a part: settings, who it is, where its secrets lie. */}}
{{- define "headwater.environment" -}}
{{- $settings := deepCopy .root.Values.settings }}
{{- $trainer := $settings.trainer | default dict }}
{{- $serving := $settings.serving | default dict }}
{{- if not $serving.bundles }}{{ $_ := set $serving "bundles" $trainer.bundles }}{{ end }}
{{- $_ := set $settings "serving" $serving }}
{{- $kafka := $settings.kafka }}
{{- $user := index .root.Values.kafka.users .part | default dict }}
{{- if hasPrefix "SASL" ($kafka.security_protocol | default "PLAINTEXT") }}
{{- if eq $kafka.sasl_mechanism "OAUTHBEARER" }}{{ $_ := set $kafka "sasl_client_id" $user.name }}
{{- else if ne $kafka.sasl_mechanism "AWS_MSK_IAM" }}{{ $_ := set $kafka "sasl_username" $user.name }}{{ end }}
{{- end }}
{{- $stored := index .root.Values.redis.users .part | default dict }}
{{- if $stored.secret }}{{ $_ := set $settings.redis "username" $stored.name }}{{ end }}
{{- if eq .part "page" }}{{ $_ := set $settings "gateway" (merge (dict "page" true "workers_file" "/etc/headwater/workers.json") $settings.gateway) }}{{ end }}
{{- range $section, $fields := $settings }}
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
- name: HEADWATER_{{ $section | upper }}__{{ $field | upper }}
  value: {{ include "headwater.value" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- range (include "headwater.files" . | fromJson).files }}
- name: {{ include "headwater.variable" .setting }}
  value: /run/secrets/{{ include "headwater.volume" .setting }}/value
{{- end }}
{{- range $name, $value := .root.Values.environment }}
- name: {{ $name }}
  value: {{ include "headwater.value" $value }}
{{- end }}
{{- if has .part (list "trainer" "serving" "operator" "page") }}
{{- range $name, $value := .root.Values.objects.environment }}
- name: {{ $name }}
  value: {{ include "headwater.value" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* metadata and spec of the pods of a part. Takes root, part, command, and `ports` and `probes` where it is a worker. */}}
{{- define "headwater.pod" -}}
{{- $values := .root.Values }}
{{- $files := (include "headwater.files" . | fromJson).files }}
metadata:
  labels:
    {{- include "headwater.labels" . | nindent 4 }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ .account | default (include "headwater.name" .root) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- $leaves := int ((index $values.workers .part | default dict).preStopSeconds | default 0) }}
  terminationGracePeriodSeconds: {{ add 20 $leaves (int (dig "operations" "drain_s" 10 $values.settings)) }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  {{- if .probes }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "headwater.selector" . | nindent 10 }}
  {{- else }}
  restartPolicy: {{ .restart }}
  {{- end }}
  containers:
    - name: {{ .part }}
      {{- $image := printf "%s:%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) }}
      image: {{ (index $values.workers .part | default dict).image | default $image | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: {{ toJson .command }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      env:
        {{- include "headwater.environment" . | trim | nindent 8 }}
      {{- if and $values.objects.secret (has .part (list "trainer" "serving" "operator" "page")) }}
      envFrom:
        - secretRef: { name: {{ $values.objects.secret }} }
      {{- end }}
      {{- if .probes }}
      ports:
        - { name: metrics, containerPort: {{ int $values.settings.operations.port }} }
        {{- if has .part (list "gateway" "page") }}
        - { name: http, containerPort: {{ include "headwater.gateway" .root }} }
        {{- if ne (include "headwater.grpc" .root) "0" }}
        - { name: grpc, containerPort: {{ include "headwater.grpc" .root }} }
        {{- end }}
        {{- end }}
      # /healthz answers while the process lives; one that makes no progress ends itself. A first start may take minutes.
      startupProbe: { httpGet: { path: /healthz, port: metrics }, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 120 }
      livenessProbe: { httpGet: { path: /healthz, port: metrics }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 4 }
      readinessProbe: { httpGet: { path: /readyz, port: metrics }, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2 }
      {{- if gt $leaves 0 }}
      lifecycle: { preStop: { sleep: { seconds: {{ $leaves }} } } } # until no balancer sends anything new
      {{- end }}
      {{- end }}
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
        {{- range $files }}
        - { name: {{ include "headwater.volume" .setting }}, mountPath: /run/secrets/{{ include "headwater.volume" .setting }}, readOnly: true }
        {{- end }}
        {{- if eq .part "trainer" }}
        - { name: disk, mountPath: {{ $values.settings.trainer.directory }} }
        {{- end }}
        {{- if eq .part "page" }}
        - { name: workers, mountPath: /etc/headwater, readOnly: true }
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: { sizeLimit: 1Gi }
    {{- if eq .part "page" }}
    - name: workers
      configMap: { name: {{ include "headwater.name" .root }}-page }
    {{- end }}
    {{- range $files }}
    - name: {{ include "headwater.volume" .setting }}
      secret:
        secretName: {{ .secret }}
        defaultMode: 0440
        items: [{ key: {{ .key }}, path: value }]
    {{- end }}
{{- end }}
