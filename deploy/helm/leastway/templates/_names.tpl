{{- define "leastway.labels" -}}
app.kubernetes.io/name: leastway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "leastway.name" -}}
{{- if eq .Release.Name "leastway" }}leastway{{ else }}{{ printf "%s-leastway" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}
